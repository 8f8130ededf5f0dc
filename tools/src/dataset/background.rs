//! Backgrounds: pictures are packed with alpha, and laid on one of these when they are used (see [`crate::picture`]).

/// The background of a picture whose caption names none.
pub const WHITE: [u8; 3] = [255, 255, 255];

/// Colours that captions may name as a background.
pub const PALETTE: [(&str, [u8; 3]); 16] = [
    ("white", WHITE),
    ("black", [0, 0, 0]),
    ("gray", [128, 128, 128]),
    ("red", [220, 40, 40]),
    ("orange", [250, 140, 30]),
    ("yellow", [252, 220, 50]),
    ("green", [50, 165, 75]),
    ("teal", [0, 140, 140]),
    ("blue", [45, 100, 220]),
    ("purple", [130, 65, 180]),
    ("pink", [250, 150, 190]),
    ("brown", [125, 80, 45]),
    ("light blue", [165, 210, 250]),
    ("light green", [175, 230, 175]),
    ("dark blue", [20, 35, 100]),
    ("beige", [240, 225, 195]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_palette_differ() {
        for (i, (name, colour)) in PALETTE.iter().enumerate() {
            assert!(PALETTE[..i].iter().all(|(n, c)| n != name && c != colour), "{name}");
        }
    }
}

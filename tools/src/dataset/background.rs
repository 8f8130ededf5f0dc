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

/// A colour that a drawing may be given, with what is darker and lighter in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Tint {
    pub name: &'static str,
    /// Where the drawing is darkest.
    pub shade: [u8; 3],
    /// Where it is as light as most of it.
    pub colour: [u8; 3],
    /// Where it is lightest.
    pub light: [u8; 3],
}

/// The eleven basic colour terms of English (Berlin and Kay 1969, "Basic color terms").
pub const TINTS: [Tint; 11] = [
    tint("red", [75, 0, 10], [222, 42, 42], [255, 205, 200]),
    tint("orange", [95, 38, 0], [248, 135, 25], [255, 228, 190]),
    tint("yellow", [120, 80, 0], [250, 212, 40], [255, 248, 205]),
    tint("green", [5, 55, 20], [55, 170, 75], [205, 242, 205]),
    tint("blue", [10, 20, 85], [45, 105, 225], [200, 222, 255]),
    tint("purple", [45, 10, 75], [135, 65, 190], [228, 205, 248]),
    tint("pink", [120, 20, 70], [248, 140, 190], [255, 226, 240]),
    tint("brown", [45, 22, 8], [125, 78, 42], [225, 195, 165]),
    tint("black", [0, 0, 0], [48, 48, 52], [175, 175, 180]),
    tint("white", [95, 98, 108], [236, 237, 240], [255, 255, 255]),
    tint("gray", [38, 38, 42], [135, 136, 140], [222, 222, 225]),
];

const fn tint(name: &'static str, shade: [u8; 3], colour: [u8; 3], light: [u8; 3]) -> Tint {
    Tint { name, shade, colour, light }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tints_are_named_as_backgrounds_are() {
        for (i, tint) in TINTS.iter().enumerate() {
            assert!(PALETTE.iter().any(|(name, _)| *name == tint.name), "{}", tint.name);
            assert!(TINTS[..i].iter().all(|t| t.name != tint.name && t.colour != tint.colour), "{}", tint.name);
        }
    }

    #[test]
    fn colours_of_the_palette_differ() {
        for (i, (name, colour)) in PALETTE.iter().enumerate() {
            assert!(PALETTE[..i].iter().all(|(n, c)| n != name && c != colour), "{name}");
        }
    }
}

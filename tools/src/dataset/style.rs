//! The nine drawing styles, and the words that captions have for them.

use super::packages::{
    EMOJIONE, FLUENT_3D, FLUENT_COLOR, FLUENT_FLAT, FXEMOJI, NOTO, NOTO_BLOB, Package, STREAMLINE, TWEMOJI,
};

/// A drawing style. The discriminant is its index in a packed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Style {
    /// Microsoft's Fluent emoji, rendered in 3D: the look that a prompt without a style word asks for.
    Fluent3d,
    /// Fluent, with gradients.
    FluentColor,
    /// Fluent, flat.
    FluentFlat,
    /// Google's Noto.
    Noto,
    /// Google's Noto of before 2017, the "blobs".
    NotoBlob,
    /// Twitter's emoji.
    Twemoji,
    /// EmojiOne 2.
    EmojiOne,
    /// Mozilla's emoji for Firefox OS.
    FxEmoji,
    /// Streamline.
    Streamline,
}

impl Style {
    /// All styles in index order.
    pub const ALL: [Self; 9] = [
        Self::Fluent3d,
        Self::FluentColor,
        Self::FluentFlat,
        Self::Noto,
        Self::NotoBlob,
        Self::Twemoji,
        Self::EmojiOne,
        Self::FxEmoji,
        Self::Streamline,
    ];

    /// Index in a packed file.
    pub fn index(self) -> u8 {
        self as u8
    }

    /// The word for the style in a packed file; also the first of [`phrases`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Fluent3d => SHIPPED,
            Self::FluentColor => "color",
            Self::FluentFlat => "flat",
            Self::Noto => "noto",
            Self::NotoBlob => "blob",
            Self::Twemoji => "twemoji",
            Self::EmojiOne => "emojione",
            Self::FxEmoji => "fxemoji",
            Self::Streamline => "streamline",
        }
    }

    /// The package that the drawings come from.
    pub fn package(self) -> Package {
        match self {
            Self::Fluent3d => FLUENT_3D,
            Self::FluentColor => FLUENT_COLOR,
            Self::FluentFlat => FLUENT_FLAT,
            Self::Noto => NOTO,
            Self::NotoBlob => NOTO_BLOB,
            Self::Twemoji => TWEMOJI,
            Self::EmojiOne => EMOJIONE,
            Self::FxEmoji => FXEMOJI,
            Self::Streamline => STREAMLINE,
        }
    }
}

/// The style that a caption without a style word means.
pub const SHIPPED: &str = "3d";

/// What captions call the style with this word: the word itself, and what people may say instead.
pub fn phrases(word: &str) -> Vec<&str> {
    match word {
        "color" => vec![word, "gradient"],
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_count_up_and_words_differ() {
        for (i, style) in Style::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(style.index()), i);
            assert_eq!(phrases(style.word())[0], style.word());
            assert!(Style::ALL[..i].iter().all(|other| other.word() != style.word()));
        }
    }
}

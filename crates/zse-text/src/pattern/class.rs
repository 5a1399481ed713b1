//! Sets of characters: literals, ranges, Unicode general categories, white space.

use unicode_general_category::{GeneralCategory, get_general_category};

/// A set of characters as a pattern writes it, e.g. `[^\r\n\p{L}\p{N}]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Class {
    /// Bit `c`: whether ASCII character `c` is in the set, all told.
    ascii: u128,
    /// Bit `category as u32`, for characters that are not ASCII.
    categories: u32,
    white_space: bool,
    ranges: Vec<(char, char)>,
    negated: bool,
    /// The right side of `&&`.
    and: Option<Box<Class>>,
}

impl Class {
    /// The set of one character.
    pub(super) fn literal(c: char) -> Self {
        let mut class = Self::default();
        class.add_range(c, c);
        class
    }

    /// Adds the other case of every ASCII letter in the set.
    pub(super) fn fold(&mut self) {
        const ALPHABET: u128 = (1 << 26) - 1;
        let letters = (self.ascii >> b'A' | self.ascii >> b'a') & ALPHABET;
        self.ascii |= letters << b'A' | letters << b'a';
    }

    pub(super) fn add_range(&mut self, first: char, last: char) {
        self.add_ascii(|c| (first..=last).contains(&c));
        if !last.is_ascii() {
            self.ranges.push((first, last));
        }
    }

    /// Adds Unicode's `White_Space`.
    pub(super) fn add_white_space(&mut self) {
        self.add_ascii(char::is_whitespace);
        self.white_space = true;
    }

    /// Adds a general category by its name of one or two letters, or the script `Han`. False if
    /// there is none of that name.
    pub(super) fn add_property(&mut self, name: &str) -> bool {
        if name == "Han" {
            for &(first, last) in HAN {
                self.add_range(first, last);
            }
            return true;
        }
        let known = CATEGORIES
            .iter()
            .filter(|(_, abbreviation)| abbreviation.starts_with(name));
        let mask = known.fold(0, |mask, (category, _)| mask | bit(*category));
        self.categories |= mask;
        self.add_ascii(|c| mask & bit(get_general_category(c)) != 0);
        mask != 0
    }

    pub(super) fn negate(&mut self) {
        self.negated = !self.negated;
        self.ascii = !self.ascii;
    }

    /// Keeps only what is in `other` as well.
    pub(super) fn intersect(&mut self, other: Self) {
        self.ascii &= other.ascii;
        self.and = Some(Box::new(other));
    }

    fn add_ascii(&mut self, test: impl Fn(char) -> bool) {
        for c in '\0'..='\x7f' {
            self.ascii |= u128::from(test(c)) << (c as u32);
        }
    }

    /// Whether the set holds the ASCII character `byte`.
    pub(super) fn contains_ascii(&self, byte: u8) -> bool {
        self.ascii >> byte & 1 != 0
    }

    /// Whether the set holds `c`.
    pub(super) fn contains(&self, c: char) -> bool {
        if c.is_ascii() {
            return self.contains_ascii(c as u8);
        }
        let listed = (self.categories != 0 && self.categories & bit(get_general_category(c)) != 0)
            || (self.white_space && c.is_whitespace())
            || self
                .ranges
                .iter()
                .any(|&(first, last)| (first..=last).contains(&c));
        listed != self.negated && self.and.as_ref().is_none_or(|and| and.contains(c))
    }
}

fn bit(category: GeneralCategory) -> u32 {
    1 << category as u32
}

use GeneralCategory as G;

/// Every general category with its abbreviation in patterns.
const CATEGORIES: &[(GeneralCategory, &str)] = &[
    (G::UppercaseLetter, "Lu"),
    (G::LowercaseLetter, "Ll"),
    (G::TitlecaseLetter, "Lt"),
    (G::ModifierLetter, "Lm"),
    (G::OtherLetter, "Lo"),
    (G::NonspacingMark, "Mn"),
    (G::SpacingMark, "Mc"),
    (G::EnclosingMark, "Me"),
    (G::DecimalNumber, "Nd"),
    (G::LetterNumber, "Nl"),
    (G::OtherNumber, "No"),
    (G::ConnectorPunctuation, "Pc"),
    (G::DashPunctuation, "Pd"),
    (G::OpenPunctuation, "Ps"),
    (G::ClosePunctuation, "Pe"),
    (G::InitialPunctuation, "Pi"),
    (G::FinalPunctuation, "Pf"),
    (G::OtherPunctuation, "Po"),
    (G::MathSymbol, "Sm"),
    (G::CurrencySymbol, "Sc"),
    (G::ModifierSymbol, "Sk"),
    (G::OtherSymbol, "So"),
    (G::SpaceSeparator, "Zs"),
    (G::LineSeparator, "Zl"),
    (G::ParagraphSeparator, "Zp"),
    (G::Control, "Cc"),
    (G::Format, "Cf"),
    (G::Surrogate, "Cs"),
    (G::PrivateUse, "Co"),
    (G::Unassigned, "Cn"),
];

/// The script `Han` (Unicode 16, `Scripts.txt`).
const HAN: &[(char, char)] = &[
    ('\u{2E80}', '\u{2E99}'),
    ('\u{2E9B}', '\u{2EF3}'),
    ('\u{2F00}', '\u{2FD5}'),
    ('\u{3005}', '\u{3005}'),
    ('\u{3007}', '\u{3007}'),
    ('\u{3021}', '\u{3029}'),
    ('\u{3038}', '\u{303B}'),
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{F900}', '\u{FA6D}'),
    ('\u{FA70}', '\u{FAD9}'),
    ('\u{16FE2}', '\u{16FE3}'),
    ('\u{16FF0}', '\u{16FF1}'),
    ('\u{20000}', '\u{2A6DF}'),
    ('\u{2A700}', '\u{2B739}'),
    ('\u{2B740}', '\u{2B81D}'),
    ('\u{2B820}', '\u{2CEA1}'),
    ('\u{2CEB0}', '\u{2EBE0}'),
    ('\u{2EBF0}', '\u{2EE5D}'),
    ('\u{2F800}', '\u{2FA1D}'),
    ('\u{30000}', '\u{3134A}'),
    ('\u{31350}', '\u{323AF}'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_bits_agree_with_the_rules_for_other_characters() {
        let mut class = Class::default();
        assert!(class.add_property("L"));
        assert!(!class.add_property("Q"));
        class.add_white_space();
        for (c, expected) in [
            ('a', true),
            ('é', true),
            ('1', false),
            ('\u{a0}', true),
            ('\u{301}', false),
        ] {
            assert_eq!(class.contains(c), expected, "{c:?}");
        }
        class.negate();
        for (c, expected) in [
            ('a', false),
            ('é', false),
            ('1', true),
            (' ', false),
            ('\u{301}', true),
        ] {
            assert_eq!(class.contains(c), expected, "{c:?}");
        }
    }

    #[test]
    fn folding_adds_the_other_case_of_letters_only() {
        let mut class = Class::default();
        class.add_range('Y', '[');
        class.fold();
        let held: String = ('\0'..='\x7f').filter(|&c| class.contains(c)).collect();
        assert_eq!(held, "YZ[yz");
    }

    #[test]
    fn intersections_hold_on_both_sides_of_ascii() {
        let (mut letters, mut not_han) = (Class::default(), Class::default());
        letters.add_property("L");
        not_han.add_property("Han");
        not_han.negate();
        letters.intersect(not_han);
        assert!(letters.contains('a') && letters.contains('я') && !letters.contains('漢'));
        assert!(!letters.contains('1'));
    }
}

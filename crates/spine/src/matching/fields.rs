//! What is compared, and how alike it may be. A level is one outcome of comparing a field; levels of a
//! field exclude each other and stand in order, the most alike first.

/// How alike a field is in two persons.
#[derive(Debug, PartialEq, Eq)]
pub struct Level {
    /// Name, as in the files of weights.
    pub name: &'static str,
    /// What it means, a clause.
    pub why: &'static str,
}

/// Something that persons are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Field {
    /// Given names.
    Given,
    /// Family name.
    Family,
    /// Day of birth.
    BirthDate,
    /// Administrative gender.
    Sex,
    /// Number of the house.
    Number,
    /// Street.
    Street,
    /// Further lines of the address.
    Further,
    /// Town or suburb.
    City,
    /// Postcode.
    Postcode,
    /// State or county.
    State,
    /// Identifiers.
    Identifier,
    /// Telephone numbers.
    Phone,
    /// E-mail addresses.
    Email,
}

/// Number of fields.
pub const FIELDS: usize = 13;

macro_rules! levels {
    ($($name:ident = $at:literal, $label:literal, $why:literal;)*) => {
        $(pub(crate) const $name: u8 = $at;)*
        pub(crate) const ALL: &[super::Level] = &[$(super::Level { name: $label, why: $why }),*];
    };
}

/// Levels of given names.
pub(crate) mod given {
    levels! {
        EXACT = 0, "exact", "the given names are the same";
        NICKNAME = 1, "nickname", "one given name is a short form of the other";
        CLOSE = 2, "close", "the given names differ by a slip of spelling";
        INITIAL = 3, "initial", "one given name is the initial of the other";
        MIDDLE = 4, "middle", "a given name of one is another given name of the other";
        SIMILAR = 5, "similar", "the given names look or sound alike";
        SWAPPED = 6, "swapped", "given name and family name have changed places";
        DIFFERENT = 7, "different", "the given names differ";
    }
}

/// Levels of family names.
pub(crate) mod family {
    levels! {
        EXACT = 0, "exact", "the family names are the same";
        CLOSE = 1, "close", "the family names differ by a slip of spelling";
        PART = 2, "part", "one family name is a part of the other";
        SIMILAR = 3, "similar", "the family names look or sound alike";
        DIFFERENT = 4, "different", "the family names differ";
    }
}

/// Levels of days of birth.
pub(crate) mod birth {
    levels! {
        EXACT = 0, "exact", "the days of birth are the same";
        SWAPPED = 1, "swapped", "day and month of birth have changed places";
        SLIP = 2, "slip", "the days of birth differ by one digit or by two that changed places";
        YEAR_OFF = 3, "year-off", "the days of birth are a year apart";
        PARTIAL = 4, "partial", "the days of birth agree as far as both are known";
        TWO_PARTS = 5, "two-parts", "two of year, month and day of birth are the same";
        TWO_SLIPS = 6, "two-slips", "the days of birth differ by two digits";
        DIFFERENT = 7, "different", "the days of birth differ";
    }
}

/// Levels of administrative gender.
pub(crate) mod sex {
    levels! {
        SAME = 0, "same", "the sex is the same";
        DIFFERENT = 1, "different", "the sex differs";
    }
}

/// Levels of house numbers.
pub(crate) mod number {
    levels! {
        EXACT = 0, "exact", "the house numbers are the same";
        CLOSE = 1, "close", "the house numbers differ by a slip";
        DIFFERENT = 2, "different", "the house numbers differ";
    }
}

/// Levels of streets.
pub(crate) mod street {
    levels! {
        EXACT = 0, "exact", "the streets are the same";
        CLOSE = 1, "close", "the streets differ by a slip of spelling";
        PART = 2, "part", "the streets share a word, or one stands in another line";
        DIFFERENT = 3, "different", "the streets differ";
    }
}

/// Levels of further lines of addresses.
pub(crate) mod further {
    levels! {
        EXACT = 0, "exact", "the further lines of the address are the same";
        CLOSE = 1, "close", "the further lines of the address differ by a slip of spelling";
        DIFFERENT = 2, "different", "the further lines of the address differ";
    }
}

/// Levels of towns.
pub(crate) mod city {
    levels! {
        EXACT = 0, "exact", "the towns are the same";
        CLOSE = 1, "close", "the towns differ by a slip of spelling";
        DIFFERENT = 2, "different", "the towns differ";
    }
}

/// Levels of postcodes.
pub(crate) mod postcode {
    levels! {
        EXACT = 0, "exact", "the postcodes are the same";
        SLIP = 1, "slip", "the postcodes differ by one character or by two that changed places";
        AREA = 2, "area", "the postcodes are of one area";
        DIFFERENT = 3, "different", "the postcodes differ";
    }
}

/// Levels of states.
pub(crate) mod state {
    levels! {
        EXACT = 0, "exact", "the states are the same";
        DIFFERENT = 1, "different", "the states differ";
    }
}

/// Levels of identifiers.
pub(crate) mod identifier {
    levels! {
        EXACT = 0, "exact", "an identifier is the same";
        SLIP = 1, "slip", "an identifier differs by one character or by two that changed places";
        TWO_SLIPS = 2, "two-slips", "an identifier differs by two characters";
        DIFFERENT = 3, "different", "an identifier that people have for life differs";
    }
}

/// Levels of telephone numbers.
pub(crate) mod phone {
    levels! {
        EXACT = 0, "exact", "a telephone number is the same";
        SLIP = 1, "slip", "a telephone number differs by one digit or by two that changed places";
        DIFFERENT = 2, "different", "the telephone numbers differ";
    }
}

/// Levels of e-mail addresses.
pub(crate) mod email {
    levels! {
        EXACT = 0, "exact", "an e-mail address is the same";
        CLOSE = 1, "close", "an e-mail address differs by a slip or only behind the @";
        DIFFERENT = 2, "different", "the e-mail addresses differ";
    }
}

impl Field {
    /// All fields, in the order of [`Levels`].
    pub const ALL: [Self; FIELDS] = [
        Self::Given,
        Self::Family,
        Self::BirthDate,
        Self::Sex,
        Self::Number,
        Self::Street,
        Self::Further,
        Self::City,
        Self::Postcode,
        Self::State,
        Self::Identifier,
        Self::Phone,
        Self::Email,
    ];

    /// Name, as in the files of weights.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Family => "family",
            Self::BirthDate => "birth-date",
            Self::Sex => "sex",
            Self::Number => "number",
            Self::Street => "street",
            Self::Further => "further",
            Self::City => "city",
            Self::Postcode => "postcode",
            Self::State => "state",
            Self::Identifier => "identifier",
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }

    /// Its levels, the most alike first.
    #[must_use]
    pub fn levels(self) -> &'static [Level] {
        match self {
            Self::Given => given::ALL,
            Self::Family => family::ALL,
            Self::BirthDate => birth::ALL,
            Self::Sex => sex::ALL,
            Self::Number => number::ALL,
            Self::Street => street::ALL,
            Self::Further => further::ALL,
            Self::City => city::ALL,
            Self::Postcode => postcode::ALL,
            Self::State => state::ALL,
            Self::Identifier => identifier::ALL,
            Self::Phone => phone::ALL,
            Self::Email => email::ALL,
        }
    }

    /// Part of where somebody lives: changes all at once when they move.
    #[must_use]
    pub fn is_of_place(self) -> bool {
        matches!(
            self,
            Self::Number | Self::Street | Self::Further | Self::City | Self::Postcode | Self::State
        )
    }
}

/// The outcome of a comparison: a level for each field, where both persons have it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Levels([u8; FIELDS]);

/// Not compared: one of the two has nothing there.
const NONE: u8 = u8::MAX;

impl Levels {
    /// Nothing compared.
    #[must_use]
    pub fn none() -> Self {
        Self([NONE; FIELDS])
    }

    /// The level of a field, an index into [`Field::levels`]; `None` where one of the two has nothing.
    #[must_use]
    pub fn of(self, field: Field) -> Option<usize> {
        let level = self.0[field as usize];
        (level != NONE).then_some(usize::from(level))
    }

    /// Whether two differ in a field altogether, its last level; `None` where one of them has nothing.
    #[must_use]
    pub fn differs(self, field: Field) -> Option<bool> {
        let level = self.of(field)?;
        Some(level + 1 == field.levels().len())
    }

    pub(super) fn set(&mut self, field: Field, level: Option<u8>) {
        self.0[field as usize] = level.unwrap_or(NONE);
    }
}

impl std::fmt::Debug for Levels {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = out.debug_map();
        for field in Field::ALL {
            if let Some(level) = self.of(field) {
                list.entry(&field.name(), &field.levels()[level].name);
            }
        }
        list.finish()
    }
}

//! A set that is harder than FEBRL's: people who live together, twins, fathers and sons of one name,
//! people who moved or married between two records, are called by a short name, have several slips in
//! one record and much that is missing. Deterministic from a seed; no real person is in it.

use super::names::{CALLED, DOMAINS, FAMILY, GIVEN, KINDS, STREETS, TOWNS};
use super::{Record, Set};
use crate::random::Random;

/// Day for which the ages are.
const YEAR: u64 = 2026;

/// Share of people with a second record, and of those with a third.
const SECOND: f64 = 0.4;
const THIRD: f64 = 0.2;

/// A table of names that are drawn as often as people have them.
struct Names {
    names: Vec<&'static str>,
    sums: Vec<u64>,
}

impl Names {
    fn of(table: &'static str) -> Self {
        let mut names = Vec::new();
        let mut sums = Vec::new();
        let mut sum = 0;
        for (name, count) in table.lines().filter_map(|line| line.split_once('\t')) {
            sum += count.parse::<u64>().unwrap_or(0);
            names.push(name);
            sums.push(sum);
        }
        Self { names, sums }
    }

    fn draw(&self, dice: &mut Dice) -> String {
        let at = dice.0.below(self.sums.last().copied().unwrap_or(1));
        let index = self.sums.partition_point(|sum| *sum <= at);
        self.names[index].to_owned()
    }
}

struct Dice(Random);

impl Dice {
    fn chance(&mut self, share: f64) -> bool {
        (self.0.below(1 << 32) as f64) < share * (1u64 << 32) as f64
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.0.below(list.len() as u64) as usize]
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from + 1)
    }

    fn letter(&mut self) -> char {
        char::from(b'a' + self.0.below(26) as u8)
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + self.0.below(10) as u8))
            .collect()
    }
}

/// Where somebody lives.
#[derive(Clone)]
struct Home {
    number: String,
    street: String,
    further: String,
    city: String,
    postcode: String,
    state: String,
    phone: String,
}

fn home(dice: &mut Dice) -> Home {
    // Towns differ in size: of two drawn the earlier in the list.
    let town = dice
        .0
        .below(TOWNS.len() as u64)
        .min(dice.0.below(TOWNS.len() as u64)) as usize;
    let (city, state, letters) = TOWNS[town];
    // A postcode is of one street in one district: fifteen houses or so.
    let district = dice.between(1, 12);
    let street = dice.0.below(60);
    let mut of_street = Random::new((town as u64) << 32 | district << 16 | street);
    let postcode = format!(
        "{letters}{district} {}{}{}",
        of_street.below(10),
        char::from(b'A' + of_street.below(26) as u8),
        char::from(b'A' + of_street.below(26) as u8)
    );
    let name = STREETS[of_street.below(STREETS.len() as u64) as usize];
    let kind = KINDS[of_street.below(KINDS.len() as u64) as usize].0;
    let mut number = dice.between(1, 120).to_string();
    if dice.chance(0.06) {
        number.push(*dice.one_of(&['a', 'b', 'c']));
    }
    let further = if dice.chance(0.15) {
        format!(
            "{} {}",
            dice.one_of(STREETS),
            dice.one_of(&["house", "court", "cottage", "lodge"])
        )
    } else {
        String::new()
    };
    Home {
        number,
        street: format!("{name} {kind}"),
        further,
        city: city.to_owned(),
        postcode,
        state: state.to_owned(),
        phone: format!("0{}", dice.digits(10)),
    }
}

fn date(dice: &mut Dice, year: u64) -> String {
    format!(
        "{year:04}{:02}{:02}",
        dice.between(1, 12),
        dice.between(1, 28)
    )
}

struct Maker {
    given: Names,
    family: Names,
    dice: Dice,
}

impl Maker {
    fn person(&mut self, home: &Home, family: &str, birth: String) -> Record {
        let dice = &mut self.dice;
        let given = self.given.draw(dice);
        let middle = if dice.chance(0.5) {
            self.given.draw(dice)
        } else {
            String::new()
        };
        let sex = if dice.0.coin() { "female" } else { "male" };
        let email = if dice.chance(0.6) {
            let domain = dice.one_of(DOMAINS);
            match dice.0.below(3) {
                0 => format!("{given}.{family}@{domain}"),
                1 => format!("{}{family}{}@{domain}", &given[..1], dice.digits(2)),
                _ => format!("{given}{}@{domain}", dice.digits(4)),
            }
        } else {
            String::new()
        };
        let phone = if dice.chance(0.55) {
            format!("07{}", dice.digits(9))
        } else {
            home.phone.clone()
        };
        Record {
            given,
            middle,
            family: family.to_owned(),
            sex: sex.to_owned(),
            birth,
            identifier: format!("9{}", dice.digits(8)),
            phone,
            email,
            ..at(home)
        }
    }

    /// The people of one household.
    fn household(&mut self) -> Vec<Record> {
        let home = home(&mut self.dice);
        let family = self.family.draw(&mut self.dice);
        let age = self.dice.between(20, 90);
        let birth = date(&mut self.dice, YEAR - age);
        let mut people = vec![self.person(&home, &family, birth)];
        if self.dice.chance(0.4) {
            return people;
        }
        let own = if self.dice.chance(0.8) {
            family.clone()
        } else {
            self.family.draw(&mut self.dice)
        };
        let age_of_partner = (age + 4 - self.dice.0.below(9)).max(18);
        let birth = date(&mut self.dice, YEAR - age_of_partner);
        people.push(self.person(&home, &own, birth));
        let children = if self.dice.chance(0.3) {
            0
        } else {
            self.dice.between(1, 3)
        };
        let mut last: Option<Record> = None;
        for _ in 0..children {
            let child_age = age.saturating_sub(self.dice.between(20, 38));
            if child_age == 0 {
                continue;
            }
            let birth = date(&mut self.dice, YEAR - child_age);
            let mut child = self.person(&home, &family, birth);
            match &last {
                Some(twin) if self.dice.chance(0.06) => {
                    child.birth.clone_from(&twin.birth);
                    if self.dice.chance(0.7) {
                        child.sex.clone_from(&twin.sex);
                    }
                    // Numbers that were given at one time lie beside each other.
                    child.identifier.clone_from(&twin.identifier);
                    child.identifier.pop();
                    let digit = self.dice.digits(1);
                    child.identifier.push_str(&digit);
                }
                // Of the first parent's name, "junior" left out as most records do.
                _ if self.dice.chance(0.06) => {
                    child.given.clone_from(&people[0].given);
                    child.sex.clone_from(&people[0].sex);
                }
                _ => {}
            }
            last = Some(child.clone());
            people.push(child);
        }
        people
    }

    fn slip(&mut self, word: &str) -> String {
        let dice = &mut self.dice;
        let mut letters: Vec<char> = word.chars().collect();
        if letters.len() < 2 {
            return word.to_owned();
        }
        let at = dice.0.below(letters.len() as u64) as usize;
        let other = |dice: &mut Dice, letter: char| {
            if letter.is_ascii_digit() {
                char::from(b'0' + dice.0.below(10) as u8)
            } else {
                dice.letter()
            }
        };
        match dice.0.below(5) {
            0 => letters[at] = other(dice, letters[at]),
            1 => {
                let letter = other(dice, letters[at]);
                letters.insert(at, letter);
            }
            2 => {
                letters.remove(at);
            }
            3 if at + 1 < letters.len() => letters.swap(at, at + 1),
            _ => letters.insert(at, letters[at]),
        }
        letters.into_iter().collect()
    }

    /// As heard, not as spelt.
    fn misheard(&mut self, word: &str) -> String {
        const HEARD: &[(&str, &str)] = &[
            ("ph", "f"),
            ("ck", "k"),
            ("ie", "y"),
            ("ee", "ea"),
            ("y", "i"),
            ("c", "k"),
            ("tt", "t"),
            ("ll", "l"),
            ("nn", "n"),
            ("s", "z"),
            ("th", "t"),
            ("ey", "y"),
            ("gh", ""),
            ("v", "w"),
            ("ei", "i"),
            ("ou", "ow"),
        ];
        let fitting: Vec<_> = HEARD
            .iter()
            .filter(|(from, _)| word.contains(from))
            .collect();
        if fitting.is_empty() {
            return self.slip(word);
        }
        let (from, to) = self.dice.one_of(&fitting);
        word.replacen(from, to, 1)
    }

    /// Another record of somebody: what a clerk elsewhere wrote down at another time.
    fn again(&mut self, original: &Record) -> Record {
        let mut record = original.clone();
        let count = match self.dice.0.below(10) {
            0..=2 => 1,
            3..=5 => 2,
            6..=7 => 3,
            8 => 4,
            _ => 6,
        };
        for _ in 0..count {
            self.change(&mut record);
        }
        for (share, field) in [
            (0.25, &mut record.identifier),
            (0.25, &mut record.phone),
            (0.35, &mut record.email),
            (0.3, &mut record.middle),
            (0.04, &mut record.birth),
            (0.06, &mut record.sex),
            (0.04, &mut record.postcode),
            (0.02, &mut record.given),
        ] {
            if self.dice.chance(share) {
                field.clear();
            }
        }
        // Ticked in the wrong box, or no longer so.
        if self.dice.chance(0.01) {
            record.sex = match record.sex.as_str() {
                "female" => "male",
                "male" => "female",
                _ => "",
            }
            .to_owned();
        }
        if self.dice.chance(0.06) {
            let Record {
                number,
                street,
                further,
                city,
                postcode,
                ..
            } = &mut record;
            [number, street, further, city, postcode]
                .into_iter()
                .for_each(String::clear);
        }
        record
    }

    fn change(&mut self, record: &mut Record) {
        match self.dice.0.below(20) {
            0 | 1 => record.given = self.slip(&record.given),
            2 | 3 => record.family = self.slip(&record.family),
            4 => record.given = self.misheard(&record.given),
            5 => record.family = self.misheard(&record.family),
            6 | 7 => {
                if let Some((_, called)) = CALLED.iter().find(|(name, _)| *name == record.given) {
                    record.given = (*self.dice.one_of(called)).to_owned();
                } else if !record.middle.is_empty() {
                    // Known by the second name.
                    std::mem::swap(&mut record.given, &mut record.middle);
                } else {
                    record.given = self.slip(&record.given);
                }
            }
            8 => record.given.truncate(1),
            9 => {
                if record.sex == "female" && self.dice.chance(0.8) {
                    let new = self.family.draw(&mut self.dice);
                    record.family = if self.dice.chance(0.3) {
                        format!("{}-{new}", record.family)
                    } else {
                        new
                    };
                } else {
                    std::mem::swap(&mut record.given, &mut record.family);
                }
            }
            10..=12 => {
                // Moved, and mostly with another telephone number at home.
                let home = home(&mut self.dice);
                if self.dice.chance(0.5) {
                    record.phone.clone_from(&home.phone);
                }
                let place = at(&home);
                *record = Record {
                    number: place.number,
                    street: place.street,
                    further: place.further,
                    city: place.city,
                    postcode: place.postcode,
                    state: place.state,
                    ..record.clone()
                };
            }
            13 => std::mem::swap(&mut record.given, &mut record.family),
            14 => self.misdate(record),
            15 => record.identifier = self.slip(&record.identifier),
            16 => record.phone = format!("07{}", self.dice.digits(9)),
            17 => {
                record.street = self.slip(&record.street);
                if let Some((long, short)) =
                    KINDS.iter().find(|(long, _)| record.street.ends_with(long))
                {
                    record.street = record.street.replace(long, short);
                }
            }
            18 => record.postcode = self.slip(&record.postcode).to_uppercase(),
            _ => {
                record.number = self.slip(&record.number);
                record.city = self.slip(&record.city);
            }
        }
    }

    fn misdate(&mut self, record: &mut Record) {
        let birth = record.birth.clone();
        let (Some(year), Some(month), Some(day)) =
            (birth.get(..4), birth.get(4..6), birth.get(6..8))
        else {
            return;
        };
        record.birth = match self.dice.0.below(5) {
            0 => format!("{year}{day}{month}"),
            1 => format!("{year}0101"),
            2 => format!("{:04}{month}{day}", year.parse::<u64>().unwrap_or(1970) + 1),
            3 => {
                let at = 3 + self.dice.0.below(5) as usize;
                let digit = self.dice.digits(1);
                format!("{}{digit}{}", &birth[..at], &birth[at + 1..])
            }
            _ => {
                let mut digits: Vec<char> = birth.chars().collect();
                digits.swap(2, 3);
                digits.into_iter().collect()
            }
        };
    }
}

fn at(home: &Home) -> Record {
    Record {
        number: home.number.clone(),
        street: home.street.clone(),
        further: home.further.clone(),
        city: home.city.clone(),
        postcode: home.postcode.clone(),
        state: home.state.clone(),
        ..Record::default()
    }
}

/// The hard set of a seed, of at least so many people.
#[must_use]
pub fn set(seed: u64, people: u32) -> Set {
    let mut maker = Maker {
        given: Names::of(GIVEN),
        family: Names::of(FAMILY),
        dice: Dice(Random::new(seed)),
    };
    let mut set = Set {
        name: "hard".to_owned(),
        records: Vec::new(),
        owners: Vec::new(),
        households: Vec::new(),
        second: None,
    };
    let mut home = 0;
    let mut next = 0;
    while next < people {
        for original in maker.household() {
            let mut records = vec![original.clone()];
            if maker.dice.chance(SECOND) {
                records.push(maker.again(&original));
                if maker.dice.chance(THIRD) {
                    records.push(maker.again(&original));
                }
            }
            for mut record in records {
                // Nobody has all of somebody.
                if maker.dice.chance(0.15) {
                    record.identifier.clear();
                }
                set.records.push(record);
                set.owners.push(next);
            }
            set.households.push(home);
            next += 1;
        }
        home += 1;
    }
    set
}

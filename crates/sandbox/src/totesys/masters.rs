//! The master data: addresses, counterparties, currencies, departments, designs, staff and payment types.

use super::random::Random;
use super::rows::{Field, Row};
use super::words;

/// The highest ids of the master data of the history; ids start at 1 and have no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Masters {
    pub(crate) addresses: i64,
    pub(crate) counterparties: i64,
    pub(crate) currencies: i64,
    pub(crate) designs: i64,
    pub(crate) staff: i64,
}

pub(crate) fn address(seed: u64, id: i64, at: i64) -> Row {
    let mut random = Random::of(seed, "address", id as u64);
    let (city, country, shape) = random.pick(&words::CITIES);
    let line_1 = format!("{} {}", random.between(1, 240), random.pick(&words::STREETS));
    let line_2 = if random.chance(35) { Field::text(random.pick(&words::UNITS)) } else { Field::Null };
    let district = if random.chance(60) { Field::text(random.pick(&words::DISTRICTS)) } else { Field::Null };
    let postal_code: String = shape
        .chars()
        .map(|c| match c {
            '9' => char::from(b'0' + random.below(10) as u8),
            'A' => char::from(b'A' + random.below(26) as u8),
            c => c,
        })
        .collect();
    let phone = format!("{:04} {:06}", random.below(10_000), random.below(1_000_000));
    vec![
        Field::Int(id),
        Field::text(line_1),
        line_2,
        district,
        Field::text(city),
        Field::text(postal_code),
        Field::text(country),
        Field::text(phone),
        Field::Stamp(at),
        Field::Stamp(at),
    ]
}

pub(crate) fn counterparty(seed: u64, id: i64, address_id: i64, at: i64) -> Row {
    let mut random = Random::of(seed, "counterparty", id as u64);
    // Every sixth name is one of the hard ones, so that each small database has them all.
    let name = match usize::try_from(id).ok().filter(|id| id % 6 == 3).and_then(|id| words::HARD_NAMES.get(id / 6)) {
        Some(hard) => (*hard).to_owned(),
        None => {
            let (first, second) = (random.pick(&words::COMPANY_WORDS), random.pick(&words::COMPANY_WORDS));
            format!("{first} {second} {}", random.pick(&words::COMPANY_FORMS))
        }
    };
    let mut contact = || if random.chance(75) { Field::text(person(&mut random)) } else { Field::Null };
    let (commercial, delivery) = (contact(), contact());
    vec![
        Field::Int(id),
        Field::text(name),
        Field::Int(address_id),
        commercial,
        delivery,
        Field::Stamp(at),
        Field::Stamp(at),
    ]
}

/// A first and a last name.
pub(crate) fn person(random: &mut Random) -> String {
    format!("{} {}", random.pick(&words::FIRST_NAMES).0, random.pick(&words::LAST_NAMES).0)
}

pub(crate) fn currency(id: i64, code: &'static str, at: i64) -> Row {
    vec![Field::Int(id), Field::text(code), Field::Stamp(at), Field::Stamp(at)]
}

pub(crate) fn departments(at: i64) -> Vec<Row> {
    let optional = |text: Option<&'static str>| text.map_or(Field::Null, Field::text);
    (1..)
        .zip(words::DEPARTMENTS)
        .map(|(id, (name, location, manager))| {
            vec![
                Field::Int(id),
                Field::text(name),
                optional(location),
                optional(manager),
                Field::Stamp(at),
                Field::Stamp(at),
            ]
        })
        .collect()
}

pub(crate) fn design(seed: u64, id: i64, at: i64) -> Row {
    let mut random = Random::of(seed, "design", id as u64);
    let (adjective, noun) = (random.pick(&words::DESIGN_ADJECTIVES), random.pick(&words::DESIGN_NOUNS));
    let file = format!("{}-{}-{id:04}.json", adjective.to_lowercase(), noun.to_lowercase());
    vec![
        Field::Int(id),
        Field::text(format!("{adjective} {noun}")),
        Field::text(format!("/designs/{}", random.pick(&["spring", "summer", "autumn", "winter"]))),
        Field::text(file),
        Field::Stamp(at),
        Field::Stamp(at),
    ]
}

pub(crate) fn staff(seed: u64, id: i64, department_id: i64, at: i64) -> Row {
    let mut random = Random::of(seed, "staff", id as u64);
    let (first, first_plain) = random.pick(&words::FIRST_NAMES);
    let (last, last_plain) = random.pick(&words::LAST_NAMES);
    vec![
        Field::Int(id),
        Field::text(first),
        Field::text(last),
        Field::Int(department_id),
        Field::text(format!("{first_plain}.{last_plain}@terrifictotes.example")),
        Field::Stamp(at),
        Field::Stamp(at),
    ]
}

pub(crate) fn payment_types(at: i64) -> Vec<Row> {
    (1..)
        .zip(words::PAYMENT_TYPES)
        .map(|(id, name)| vec![Field::Int(id), Field::text(name), Field::Stamp(at), Field::Stamp(at)])
        .collect()
}

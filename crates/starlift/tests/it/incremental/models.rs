//! Random models: joins of tables and of earlier models, with themselves too, inner and outer, in random order, with filters,
//! strict functions and tests.

use super::history::{Kind, TABLES};
use super::random::Random;

/// A column of an input or a model.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    kind: Kind,
}

/// What a model may read.
#[derive(Debug, Clone)]
struct Input {
    name: String,
    columns: Vec<Known>,
    /// How many of its first columns are its key.
    key: usize,
}

/// The files of a project's models: name and text.
pub(super) fn project(random: &mut Random) -> Vec<(String, String)> {
    let mut inputs: Vec<Input> = TABLES
        .iter()
        .map(|(name, columns, key)| Input {
            name: name.to_string(),
            columns: columns.iter().map(|(name, kind)| Known { name: name.to_string(), kind: *kind }).collect(),
            key: *key,
        })
        .collect();
    let count = 1 + random.below(3);
    let mut models = Vec::new();
    for number in 0..count {
        let (text, made) = model(random, number, count, &inputs);
        models.push((made.name.clone(), text));
        inputs.push(made);
    }
    let wide: Vec<String> =
        inputs.iter().filter(|input| input.key > 1).map(|input| format!("-> {})", input.name)).collect();
    models.into_iter().map(|(name, text)| (name, without_references(&text, &wide))).collect()
}

/// What is between two tests of a header, and nowhere inside of one.
const BETWEEN: &str = ",  ";

/// A model without tests that refer to a key of several columns, which is refused.
fn without_references(text: &str, wide: &[String]) -> String {
    let line = |line: &str| {
        let Some(tests) = line.strip_prefix("-- tests: ") else { return Some(line.to_string()) };
        let kept: Vec<&str> = tests.split(BETWEEN).filter(|test| !wide.iter().any(|end| test.contains(end))).collect();
        (!kept.is_empty()).then(|| format!("-- tests: {}", kept.join(BETWEEN)))
    };
    text.lines().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// A reading of an input, and how it is joined with the ones before.
struct Scan<'a> {
    input: &'a Input,
    join: &'static str,
    on: String,
}

fn model(random: &mut Random, number: usize, count: usize, inputs: &[Input]) -> (String, Input) {
    // Models are rather read by the ones after them.
    let newest = inputs.last().filter(|_| number > 0 && random.chance(500));
    let mut scans = vec![Scan { input: newest.unwrap_or_else(|| random.one_of(inputs)), join: "", on: String::new() }];
    for _ in 0..random.below(4) {
        let scan = joined(random, &scans, inputs);
        scans.push(scan);
    }
    let driver = if random.chance(30) { random.below(scans.len()) } else { 0 };

    let mut columns: Vec<(String, Known)> = Vec::new();
    for (position, column) in scans[driver].input.columns[..scans[driver].input.key].iter().enumerate() {
        let known = Known { name: format!("k{position}"), kind: column.kind };
        columns.push((format!("t{driver}.{}", column.name), known));
    }
    let key = columns.len();
    for (position, scan) in scans.iter().enumerate() {
        for column in &scan.input.columns {
            if !random.chance(450) {
                continue;
            }
            let name = format!("c{}", columns.len());
            let from = format!("t{position}.{}", column.name);
            let (from, kind) = match column.kind {
                Kind::Due if random.chance(700) => (format!("parse_date({from})"), Kind::Text),
                Kind::Text if random.chance(200) => (format!("coalesce({from}, '-')"), Kind::Text),
                Kind::Int4 if random.chance(150) => (format!("{from} + 1"), Kind::Int4),
                kind => (from, kind),
            };
            // A date is none of the kinds that are joined on or tested.
            let kind = if from.starts_with("parse_date") { Kind::Due } else { kind };
            columns.push((from, Known { name, kind }));
        }
    }

    let name = format!("m{number}");
    let header = header(random, &columns, key, number, count);
    let sql = sql(random, &scans, &columns);
    // A column that a strict function made is no text to join or test.
    let made = columns.into_iter().filter(|(from, _)| !from.starts_with("parse_date")).map(|(_, known)| known);
    (format!("{header}{sql}"), Input { name, columns: made.collect(), key })
}

/// One more reading: mostly of the row that a column of an earlier one refers to.
fn joined<'a>(random: &mut Random, scans: &[Scan<'a>], inputs: &'a [Input]) -> Scan<'a> {
    let number = scans.len();
    let input = random.one_of(inputs);
    let is_number = |known: &&Known| matches!(known.kind, Kind::Int4 | Kind::Int8);
    let any = |random: &mut Random, scan: usize| {
        let numbers: Vec<&Known> = scans[scan].input.columns.iter().filter(is_number).collect();
        format!("t{scan}.{}", random.one_of(&numbers).name)
    };
    let by_key = random.chance(930);
    let own: Vec<&Known> = if by_key {
        input.columns[..input.key].iter().collect()
    } else {
        let numbers: Vec<&Known> = input.columns.iter().filter(is_number).collect();
        vec![*random.one_of(&numbers)]
    };
    let mut on: Vec<String> = Vec::new();
    let mut other = random.below(number);
    for column in own {
        // The columns of a key may refer to those of several inputs.
        if random.chance(200) {
            other = random.below(number);
        }
        on.push(format!("t{number}.{} = {}", column.name, any(random, other)));
    }
    if random.chance(120) {
        on.push(condition(random, input, number));
    }
    let join = match random.below(100) {
        0..55 => "join",
        55..94 => "left join",
        94..98 => "right join",
        _ => "full join",
    };
    Scan { input, join, on: on.join(" and ") }
}

fn condition(random: &mut Random, input: &Input, number: usize) -> String {
    let column = random.one_of(&input.columns);
    let from = format!("t{number}.{}", column.name);
    match (random.below(3), column.kind) {
        (0, _) => format!("{from} is null"),
        (1, Kind::Int4 | Kind::Int8) => format!("{from} > {}", random.below(6)),
        (1, Kind::Text) => format!("{from} = 'x'"),
        _ => format!("{from} is not null"),
    }
}

fn header(random: &mut Random, columns: &[(String, Known)], key: usize, number: usize, count: usize) -> String {
    let is_fact = random.chance(500);
    let mut text = format!("-- kind: {}\n", if is_fact { "fact" } else { "dimension" });
    let keys: Vec<&str> = columns[..key].iter().map(|(_, known)| known.name.as_str()).collect();
    text.push_str(&format!("-- key: {}\n", keys.join(", ")));
    if !is_fact && random.chance(40) {
        text.push_str("-- refused: inferred\n");
    }
    let mut tests = Vec::new();
    for (_, known) in &columns[key..] {
        let name = &known.name;
        let warns = if random.chance(200) { " warn" } else { "" };
        match known.kind {
            Kind::Text if random.chance(150) => tests.push(format!("accepted_values({name}: x, y, -){warns}")),
            Kind::Int4 | Kind::Int8 if count > 1 && random.chance(300) => {
                let mut other = random.below(count);
                // Mostly to a model that comes before.
                if number > 0 && random.chance(700) {
                    other = random.below(number);
                }
                if other != number {
                    tests.push(format!("relationships({name} -> m{other}){warns}"));
                }
            }
            _ if random.chance(60) => tests.push(format!("not_null({name}){warns}")),
            _ if random.chance(10) => tests.push(format!("unique({name}){warns}")),
            _ => {}
        }
    }
    if !tests.is_empty() {
        text.push_str(&format!("-- tests: {}\n", tests.join(BETWEEN)));
    }
    text
}

fn sql(random: &mut Random, scans: &[Scan<'_>], columns: &[(String, Known)]) -> String {
    let selected: Vec<String> = columns.iter().map(|(from, known)| format!("{from} as {}", known.name)).collect();
    let mut filters: Vec<String> = Vec::new();
    for (number, scan) in scans.iter().enumerate() {
        if random.chance(150) {
            filters.push(condition(random, scan.input, number));
        }
    }
    let in_list = scans.iter().skip(1).all(|scan| scan.join == "join") && random.chance(300);
    let mut from = String::new();
    for (number, scan) in scans.iter().enumerate() {
        let source = match random.below(10) {
            0 => format!("(select * from {} where {}) t{number}", scan.input.name, plain(random, scan.input)),
            1 => format!("(select * from (select * from {}) u order by 1) t{number}", scan.input.name),
            _ => format!("{} t{number}", scan.input.name),
        };
        match (number, in_list) {
            (0, _) => from.push_str(&source),
            (_, true) => {
                from.push_str(&format!(", {source}"));
                filters.push(scan.on.clone());
            }
            (_, false) => from.push_str(&format!(" {} {source} on {}", scan.join, scan.on)),
        }
    }
    let filter = if filters.is_empty() { String::new() } else { format!(" where {}", filters.join(" and ")) };
    // Seldom something that is evaluated whole.
    let distinct = if random.chance(30) { "distinct " } else { "" };
    format!("select {distinct}{} from {from}{filter}", selected.join(", "))
}

fn plain(random: &mut Random, input: &Input) -> String {
    condition(random, input, 0).replace("t0.", "")
}

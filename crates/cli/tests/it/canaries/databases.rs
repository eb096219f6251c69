//! Failures over rows: in the source, in models, in stored files, and in the warehouse.

use super::canary::*;
use super::scenario;
use super::world::{CONFIG, PERSON, Scenario, World};

pub(crate) fn source(_: &World) -> Vec<Scenario> {
    let fails = |name, says, before: String, after: &str| scenario(name, "ingest", 1, says).in_source(before, after);
    // A view is read where it is asked for.
    let reads_view = |scenario: Scenario, view: &str, column: &str| {
        scenario.file("starlift.toml", format!("{CONFIG}[source.tables.{view}]\ncapture = \"full\"\n")).file(
            "models/dim_odd.sql",
            format!("-- kind: dimension\n-- key: person_id\nselect person_id, {column} from {view}\n"),
        )
    };
    let of_view = |name, says, before: String, after: &str| reads_view(fails(name, says, before, after), "bad", "n");
    vec![
        fails(
            "permission denied",
            "grant select",
            "revoke select on person from keeper".into(),
            "grant select on person to keeper",
        ),
        fails(
            "a number that is refused",
            "person_id=3",
            format!("insert into person (person_id, name, salary) values (3, '{KEY_NEIGHBOUR}', {REFUSED_NUMBER})"),
            "delete from person where person_id = 3",
        ),
        fails(
            "a number that is none",
            "person_id=3",
            format!("insert into person (person_id, name, salary) values (3, '{KEY_NEIGHBOUR}', 'NaN')"),
            "delete from person where person_id = 3",
        ),
        fails(
            "a type that is not carried",
            "as = \\\"text\\\"",
            "create table odd (id int primary key, kind regclass); grant select on odd to keeper".into(),
            "drop table odd",
        ),
        of_view(
            "a view that casts in vain",
            "22P02",
            "create view bad as select person_id, mail::int as n from person; grant select on bad to keeper".into(),
            "drop view bad",
        ),
        of_view(
            "a view whose function raises",
            "refused",
            "create function angry(v text) returns int language plpgsql as $$ begin
                 raise exception 'message %', v using detail = v, hint = v, constraint = v, table = v, errcode = '42501';
             end $$;
             create view bad as select person_id, angry(coalesce(mail, '')) as n from person; grant select on bad to keeper"
                .into(),
            "drop view bad; drop function angry",
        ),
        of_view(
            "a view whose function executes a value",
            "42601",
            "create function angry(v text) returns int language plpgsql as $$ begin execute v; return 1; end $$;
             create view bad as select person_id, angry(name) as n from person; grant select on bad to keeper"
                .into(),
            "drop view bad; drop function angry",
        ),
        reads_view(scenario("a view whose function talks", "ingest", 0, "notice of the server"), "talk", "talk").in_source(
            "create function talk(v text) returns text language plpgsql as $$ begin
                 raise notice 'notice %', v; raise warning 'warning %', v using detail = v; return v;
             end $$;
             create view talk as select person_id, talk(coalesce(name, '')) as talk from person; grant select on talk to keeper",
            "drop view talk; drop function talk",
        ),
    ]
}

pub(crate) fn models(_: &World) -> Vec<Scenario> {
    let model = |name, code, says, select: &str| {
        let text = format!("-- kind: dimension\n-- key: person_id\nselect {select}\n");
        scenario(name, "transform", code, says).file("models/dim_odd.sql", text)
    };
    vec![
        model("a cast of a text", 1, "cannot be evaluated", "person_id, name::int as n from person"),
        model("a cast to a date", 1, "cannot be evaluated", "person_id, mail::date as d from person"),
        model(
            "a decimal that does not fit",
            1,
            "cannot be evaluated",
            "person_id, salary::decimal(5, 2) as s from person",
        ),
        model("a division by zero", 1, "cannot be evaluated", "person_id, salary / (person_id - 1) as s from person"),
        model("a strict function", 1, "refuses", "person_id, parse_date(due) as d from person"),
        model("a strict function of numbers", 1, "refuses", "person_id, to_decimal(mail, 10, 2) as d from person"),
        model(
            "a strict function in a filter",
            1,
            "cannot be evaluated",
            "person_id from person where parse_date(name) > parse_date('2024-01-01')",
        ),
        model("a key that yields two rows", 1, "more than one row", "1 as person_id, name from person"),
        model("a key that is null", 1, "odd", "nullif(person_id, 1) as person_id, name from person"),
        model("no SQL at all", 1, "odd", "person_id frm person x y"),
        model("a column that is missing", 1, "nmae", "person_id, nmae from person"),
        model("a table that is missing", 1, "persn", "person_id from persn"),
        model("a failing subquery", 1, "more than one row", "person_id, (select name from person) as n from person"),
        scenario("a test of a model that fails", "transform", 0, "transform").file(
            "models/dim_person.sql",
            PERSON.replace("-- key: person_id\n", "-- key: person_id\n-- tests: accepted_values(name: Bob)\n"),
        ),
    ]
}

pub(crate) fn files(world: &World) -> Vec<Scenario> {
    let with = |path: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        change(std::fs::read(world.dir.path().join(path)).expect("a file of the lake"))
    };
    // The newest manifest comes first, the newest file last.
    let manifest = world.files("lake/ingest/_manifests").remove(0);
    let data = world.files("lake/ingest/person").pop().expect("a file of the lake");
    let planted = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replacen("\"seq\"", &format!("\"{SESSION_TOKEN}\": \"{ROW_TEXT}\", \"seq\""), 1).into_bytes()
    };
    let odd = "-- kind: dimension\n-- key: person_id\nselect person_id, mail from person\n";
    let damaged = |name, says, path: &str, content: Vec<u8>| {
        scenario(name, "transform", 1, says).file("models/dim_odd.sql", odd).file(path, content)
    };
    vec![
        damaged("a manifest with more in it", "damaged", &manifest, with(&manifest, &planted)),
        damaged(
            "a manifest that ends early",
            "damaged",
            &manifest,
            with(&manifest, &|bytes| bytes[..bytes.len() / 2].to_vec()),
        ),
        damaged("a file that ends early", "truncated", &data, with(&data, &|bytes| bytes[..bytes.len() - 9].to_vec())),
        damaged(
            "a file that was changed",
            "altered",
            &data,
            with(&data, &|mut bytes| {
                bytes[20] ^= 0x55;
                bytes
            }),
        ),
        damaged("a file that is another", "truncated", &data, ROW_TEXT.as_bytes().to_vec()),
    ]
}

pub(crate) fn warehouse(_: &World) -> Vec<Scenario> {
    // A new person each time, so that there is something to load; the one before is loaded with the next.
    let person = |id: u32| {
        format!(
            "insert into person (person_id, name, mail, salary, born) select {id}, name, mail, salary, born from person
             where person_id = 1"
        )
    };
    let gone = |id: u32| format!("delete from person where person_id = {id}");
    let fails = |id: u32, name, says, before: &str, after: &str| {
        scenario(name, "run --json", 1, says).in_source(person(id), gone(id)).in_warehouse(before, after)
    };
    let raises = "create function angry() returns trigger language plpgsql as $$
                  declare n text = coalesce(new.name, ''); m text = coalesce(new.mail, '');
                  begin
                      raise exception 'message %', new.name using detail = m, hint = n, constraint = m,
                          table = n, column = m;
                  end $$;
                  create trigger angry before insert on dim_person for each row execute function angry()";
    let quotes = "create function quotes() returns trigger language plpgsql as $$ begin
                      perform quote_ident(new.name)::regconfig; return new; end $$;
                  create trigger quotes before insert on dim_person for each row execute function quotes()";
    let talks = raises.replace("raise exception", "raise warning").replace("                  end", "return new; end");
    vec![
        fails(
            11,
            "a unique violation",
            "unique constraint `once`",
            "alter table dim_person add constraint once unique (mail)",
            "alter table dim_person drop constraint once",
        ),
        fails(
            12,
            "a check violation",
            "check `sane`",
            "alter table dim_person add constraint sane check (length(name) < 5) not valid",
            "alter table dim_person drop constraint sane",
        ),
        fails(
            13,
            "a foreign key violation",
            "foreign key `known`",
            "create table names (name text primary key);
             alter table dim_person add constraint known foreign key (name) references names not valid",
            "alter table dim_person drop constraint known; drop table names",
        ),
        fails(
            14,
            "an exclusion violation",
            "exclusion constraint `alone`",
            "alter table dim_person add constraint alone exclude using btree (name with =)",
            "alter table dim_person drop constraint alone",
        ),
        scenario("a not-null violation", "run --json", 1, "name")
            .in_source(
                format!("insert into person (person_id, mail, salary) values (15, '{ROW_MAIL}', {ROW_NUMBER})"),
                gone(15),
            )
            .in_warehouse(
                "alter table dim_person alter name set not null",
                "alter table dim_person alter name drop not null",
            ),
        fails(16, "a trigger that raises", "P0001", raises, "drop trigger angry on dim_person; drop function angry"),
        fails(
            17,
            "a trigger that raises under another code",
            "42501",
            &raises.replace("constraint =", "errcode = '42501', constraint ="),
            "drop trigger angry on dim_person; drop function angry",
        ),
        scenario("a trigger that warns", "run --json", 0, "\"run_id\"")
            .in_source(person(18), gone(18))
            .in_warehouse(talks, "drop trigger angry on dim_person; drop function angry"),
        fails(
            19,
            "a text that is too long",
            "dim_person",
            "drop view if exists current_dim_person; alter table dim_person alter name type varchar(3) using left(name, 3)",
            "drop view if exists current_dim_person; alter table dim_person alter name type text",
        ),
        fails(
            20,
            "a number that is too large",
            "dim_person",
            "drop view if exists current_dim_person; alter table dim_person alter salary type numeric(4, 2) using 1",
            "drop view if exists current_dim_person; alter table dim_person alter salary type numeric",
        ),
        fails(
            21,
            "a table that is missing",
            "dim_label",
            "alter table dim_label rename to elsewhere",
            "alter table elsewhere rename to dim_label",
        ),
        fails(
            22,
            "an input function that says what it refuses",
            "SQLSTATE 42704",
            quotes,
            "drop trigger quotes on dim_person; drop function quotes",
        ),
        scenario("a run in between", "run --json", 0, "\"run_id\""),
        scenario("rows that differ", "verify", 1, "person_id=1").in_warehouse(
            "update dim_person set name = 'x', salary = 1 where person_id = 1",
            "update dim_person set name = 'x' where person_id = 1",
        ),
        scenario("repair", "verify --repair", 0, "dim_person"),
    ]
}

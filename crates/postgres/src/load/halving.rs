//! The writing of staged rows of which the server may refuse some, by halving: the same from outside as inside the server
//! ([`super::block`]).
//!
//! A row that is refused for its own sake, such as by a CHECK, is set aside as soon as it is found. One that may come in once others
//! are (it refers to a row that was not written yet, or takes a value that another row is about to give up) is put off, and so
//! are, as a whole, ranges that nothing but a foreign key refuses where the table refers to itself: such rows stay together. When all others are
//! in, what was put off is tried again, first together and then by halves, for as long as that brings rows in. Only what is
//! left is set aside and counts against the limit.
//!
//! So that an error comes soon where a great many rows are refused, such a search ends as well with [`PUT_OFF`] rows beyond the
//! limit; a person who accepts the rows waits for all of it.

use starlift_core::Result;
use tokio_postgres::Client;

use super::aside::may_stand_aside;
use super::block::{Block, Bounds, FOREIGN_KEY, Kind};
use super::check;
use super::dimension::Upserted;
use super::isolate::{
    self, Attempt, Numbered, Write, attempt, attempt_unless, is_about_rows, says_that_it_is_about_rows,
};
use super::pair::Pair;
use super::record_id::{self, SEQUENCE_IS_AT_ITS_END};
use super::refusing::Refusals;
use super::stage::Stage;
use super::transaction::{Staged, Work};
use crate::sqlstate::{may_come_in_later, sqlstate_of};

/// Rows beyond the limit that are put off before what was put off is tried again.
const PUT_OFF: u64 = 250;
/// How often what was put off is tried by halves. Rows that refer to one another in a long chain, with a bad one among them,
/// come in by one or a few each time; the next load goes on from there.
const PASSES: u32 = 20;

/// What became of a range of rows.
enum Tried {
    Written(Upserted),
    /// It was one row, and stands aside.
    Aside,
    /// It is tried again when others are in.
    PutOff,
    /// One of its rows is refused.
    Refused,
}

/// What is done about a range that is refused.
#[derive(Clone, Copy)]
enum Refused<'a> {
    /// It may be put off: a row, or the whole range where that is said and only a foreign key refuses it.
    PutOff { by_set: bool },
    /// It is a row, and is set aside with those that were refused alike.
    AsideWith(&'a Kind),
    /// It is set aside where it is a row.
    Aside,
}

/// The search for the rows that are refused.
struct Search {
    write: Write,
    numbered: Numbered,
    block: Block,
    in_the_server: bool,
    /// Whether rows of the table may refer to one another. Ranges that only a foreign key refuses are put off as a whole then.
    refers_to_itself: bool,
    /// Whether this pass does so.
    by_set: bool,
    /// What was put off from outside; what the block put off is in its table.
    put_off: Vec<(i64, i64)>,
    /// How many rows and ranges were put off, and with how many the pass ends.
    count_put_off: u64,
    most_put_off: u64,
    sum: Upserted,
    /// Rows that are found, and with how many of them they are counted next.
    found: u64,
    next_look: u64,
}

impl Work<'_, '_> {
    /// Writes staged rows, and sets those aside that the server refuses.
    pub(crate) async fn written(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        write: Write,
        refusals: &mut Refusals,
    ) -> Result<Upserted> {
        let pair = model.pair;
        let no_number = |error: &starlift_core::Error| sqlstate_of(error) == Some(SEQUENCE_IS_AT_ITS_END);
        let is_refusal = |error: &starlift_core::Error| is_about_rows(error) || no_number(error);
        let refused = match attempt_unless(client, write.of(client, pair, stage), is_refusal).await? {
            Attempt::Done(done) => return Ok(done),
            Attempt::Refused(error) => error,
        };
        if let Some(used_up) = record_id::used_up(client, pair, &refused).await? {
            return Err(used_up);
        }
        if no_number(&refused) || !may_stand_aside(pair) {
            return Err(refused);
        }
        // What is refused without any row is no matter of rows, nor what is refused for any row.
        let without_rows = attempt(client, write.of(client, pair, &stage.without_rows())).await?;
        if matches!(without_rows, Attempt::Refused(_)) {
            return Err(refused);
        }
        let may_be_of_all = !says_that_it_is_about_rows(&refused);
        let of_its_own = match may_be_of_all {
            true => isolate::refuses_its_own(client, pair, write, &refused).await?,
            false => Some(false),
        };
        if of_its_own == Some(true) {
            return Err(refused);
        }

        // As many as the limit lets through, and some more to be named; then twice as many each time, because every look
        // is at all of them.
        let left = self.run.aside.rows.saturating_sub(refusals.counted);
        let next_look = match self.run.aside.accepted.contains(&pair.model.name) {
            true => u64::MAX,
            false => left.saturating_add(check::KEYS_SHOWN as u64),
        };
        let refers_to_itself = pair.target.foreign_keys.values().any(|(table, _)| *table == pair.target.name);
        let mut search = Search {
            write,
            numbered: Numbered::of(client, pair, stage).await?,
            block: Block::of(client, pair, write).await?,
            in_the_server: true,
            refers_to_itself,
            by_set: refers_to_itself,
            put_off: Vec::new(),
            count_put_off: 0,
            most_put_off: next_look.saturating_add(PUT_OFF),
            sum: Upserted::default(),
            found: 0,
            next_look,
        };
        self.search(client, model, stage, &mut search, refusals).await?;
        if of_its_own.is_none() && search.numbered.rows > 1 && search.found == search.numbered.rows {
            // Nor did the table have a row before that could tell.
            return Err(refused);
        }
        Block::end(client).await?;
        Numbered::end(client).await?;
        self.set_aside(client, model, refusals).await?;
        Ok(search.sum)
    }

    /// Tries all rows, and again what was put off.
    async fn search(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        search: &mut Search,
        refusals: &mut Refusals,
    ) -> Result<()> {
        // Ranges that were not tried when a pass ended early.
        let mut untried = Vec::new();
        let mut passes = 0;
        loop {
            let before = search.sum;
            self.pass(client, model, stage, search, refusals).await?;
            if search.count_put_off == 0 {
                if untried.is_empty() {
                    return Ok(());
                }
                // All that was put off is in, or refused for good: on to what an earlier pass did not come to.
                search.numbered.left.append(&mut untried);
                search.by_set = search.refers_to_itself;
                passes = 0;
                continue;
            }
            if (passes == 0 || search.sum != before) && passes < PASSES {
                let mut again = search.put_off.clone();
                again.extend(Block::put_off(client).await?);
                again.sort_unstable();
                let part = Numbered::stage(&again);
                match attempt(client, search.write.of(client, model.pair, &part)).await? {
                    Attempt::Done(done) => search.sum.add(done.updated, done.inserted),
                    Attempt::Refused(_) => {
                        untried.splice(0..0, search.numbered.left.drain(..));
                        // From the other end each time: of a chain of references one direction brings in all.
                        if passes % 2 == 0 {
                            again.reverse();
                        }
                        search.numbered.left = again;
                        search.by_set = false;
                        passes += 1;
                        search.forget(client).await?;
                        continue;
                    }
                }
            } else {
                self.give_up(client, model, stage, search).await?;
                if search.found >= search.next_look {
                    self.look(client, model, search, refusals).await?;
                }
                search.most_put_off = search.most_put_off.saturating_mul(2);
            }
            search.forget(client).await?;
            search.numbered.left.splice(0..0, untried.drain(..));
            search.by_set = search.refers_to_itself;
            passes = 0;
            if search.numbered.left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Tries the ranges that are left, until so many rows are put off that these have to be tried first.
    async fn pass(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        search: &mut Search,
        refusals: &mut Refusals,
    ) -> Result<()> {
        while search.count_put_off < search.most_put_off {
            let Some((first, last)) = search.numbered.left.pop() else { return Ok(()) };
            if search.in_the_server {
                search.numbered.left.push((first, last));
                let bounds = Bounds {
                    refused: search.next_look.saturating_sub(search.found),
                    put_off: search.most_put_off.saturating_sub(search.count_put_off),
                    by_set: search.by_set,
                };
                let Some(done) = search.block.run(client, &search.numbered.left, bounds).await? else {
                    search.in_the_server = false;
                    continue;
                };
                search.sum.add(done.updated, done.inserted);
                search.numbered.left = done.left;
                search.count_put_off += done.put_off;
                self.say_why(client, model, stage, search, false).await?;
            } else {
                let refused = Refused::PutOff { by_set: search.by_set };
                match self.try_again(client, model, stage, search, (first, last), refused).await? {
                    Tried::Written(done) => search.sum.add(done.updated, done.inserted),
                    Tried::Aside => {}
                    Tried::PutOff => {
                        search.put_off.push((first, last));
                        search.count_put_off += 1;
                    }
                    Tried::Refused => search.numbered.split(first, last),
                }
            }
            if search.found >= search.next_look {
                self.look(client, model, search, refusals).await?;
            }
        }
        Ok(())
    }

    /// Counts the rows that were found.
    async fn look(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        search: &mut Search,
        refusals: &mut Refusals,
    ) -> Result<()> {
        self.set_aside(client, model, refusals).await?;
        while search.next_look <= search.found {
            search.next_look = search.next_look.saturating_mul(2);
        }
        Ok(())
    }

    /// Sets aside what was put off and did not come in.
    async fn give_up(&self, client: &Client, model: &mut Staged<'_>, stage: &Stage, search: &mut Search) -> Result<()> {
        self.say_why(client, model, stage, search, true).await?;
        let mut left: Vec<(i64, i64)> = std::mem::take(&mut search.put_off);
        left.reverse();
        while let Some((first, last)) = left.pop() {
            match self.try_again(client, model, stage, search, (first, last), Refused::Aside).await? {
                Tried::Written(done) => search.sum.add(done.updated, done.inserted),
                Tried::Aside | Tried::PutOff => {}
                Tried::Refused => {
                    let middle = first + (last - first) / 2;
                    left.extend([(middle + 1, last), (first, middle)]);
                }
            }
        }
        Ok(())
    }

    /// Sets aside the rows that a block found, those that were put off with them or not, with what the server says about
    /// one of each kind.
    async fn say_why(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        search: &mut Search,
        with_put_off: bool,
    ) -> Result<()> {
        while let Some(kind) = Block::next_kind(client, with_put_off).await? {
            let refused = Refused::AsideWith(&kind);
            match self.try_again(client, model, stage, search, (kind.row, kind.row), refused).await? {
                Tried::Written(done) => {
                    search.sum.add(done.updated, done.inserted);
                    kind.not_this(client).await?;
                }
                Tried::Aside | Tried::PutOff | Tried::Refused => kind.done(client).await?,
            }
        }
        Ok(())
    }

    /// Writes a range of numbered rows, or does about it what is said.
    async fn try_again(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        stage: &Stage,
        search: &mut Search,
        (first, last): (i64, i64),
        refused: Refused<'_>,
    ) -> Result<Tried> {
        let pair: Pair<'_> = model.pair;
        let part = Numbered::stage(&[(first, last)]);
        let error = match attempt(client, search.write.of(client, pair, &part)).await? {
            Attempt::Done(done) => return Ok(Tried::Written(done)),
            Attempt::Refused(error) => error,
        };
        let code = sqlstate_of(&error).unwrap_or_default();
        if let Refused::PutOff { by_set } = refused
            && (by_set && code == FOREIGN_KEY || first == last && may_come_in_later(code))
        {
            return Ok(Tried::PutOff);
        }
        if first != last {
            return Ok(Tried::Refused);
        }
        if let Some(used_up) = record_id::used_up(client, pair, &error).await? {
            return Err(used_up);
        }
        let (column, reason) = isolate::reason(client, pair, &error).await?;
        let (why, keep_values) = ((column.as_str(), reason.as_str()), self.run.aside.keep_values);
        let rows = match refused {
            Refused::AsideWith(kind) => kind.rows(),
            _ => part.table,
        };
        let taken = model.aside.take_those(client, pair, stage, &rows, why, keep_values).await?;
        model.taken += taken;
        search.found += taken;
        Ok(Tried::Aside)
    }
}

impl Search {
    /// Forgets what was put off, which is tried or done with.
    async fn forget(&mut self, client: &Client) -> Result<()> {
        self.put_off.clear();
        self.count_put_off = 0;
        Block::forget(client).await
    }
}

//! Which rows have an honest stamp, as the source itself knows it: of every row that is written, whether its stamp is from
//! before its transaction began.

use starlift_sandbox::totesys::SOURCE_TABLES;

use super::Findings;
use crate::world::World;

/// Indexes the stamps of every table, and lets the source take note of every version from now on.
pub(super) async fn watch(world: &World) {
    let mut sql = String::from(
        "create schema truth;
         create table truth.version (table_name text, key int, honest boolean not null, primary key (table_name, key));
         create function truth.note() returns trigger language plpgsql as $$ begin
           insert into truth.version
           values (tg_table_name, (to_jsonb(new) ->> tg_argv[0])::int, new.last_updated >= localtimestamp)
           on conflict (table_name, key) do update set honest = excluded.honest;
           return null;
         end $$;",
    );
    for (table, key) in SOURCE_TABLES {
        sql.push_str(&format!(
            "create index on \"{table}\" (last_updated);
             create trigger note after insert or update on \"{table}\" for each row execute function truth.note('{key}');"
        ));
    }
    world.change(&sql).await;
}

/// Rows whose newest version has an honest stamp, or that nobody wrote, and that the lake lacks or has otherwise; after
/// [`super::lake::findings`], whose copy of the lake this asks. Ghosts have no stamp.
pub(super) async fn findings(world: &World) -> Findings {
    let client = world.source_client().await;
    let mut found = Findings::default();
    for (table, key) in SOURCE_TABLES {
        let (source, lake) = (format!("public.\"{table}\""), format!("in_lake.\"{table}\""));
        let honest = format!(
            "not exists (select from truth.version v where v.table_name = '{table}' and v.key = a.{key} and not v.honest)"
        );
        let sql = format!(
            "select (select count(*) from {source} a where not exists (select from {lake} b where b.{key} = a.{key}) and {honest}),
                    (select count(*) from {source} a join {lake} b using ({key}) where a is distinct from b and {honest})"
        );
        let row = client.query_one(&sql, &[]).await.unwrap();
        found.lost += row.get::<_, i64>(0) as u64;
        found.stale += row.get::<_, i64>(1) as u64;
    }
    found
}

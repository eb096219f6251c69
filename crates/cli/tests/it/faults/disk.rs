//! A disk that takes no more: no file of a run may grow beyond a limit of the system, which works as any user and needs no
//! file system of its own. The run ends with 75 and leaves nothing half-written; the next one mends all.

use std::path::Path;

use super::shop::{PATIENCE, Shop, finish};

/// Limits in blocks of 512 bytes: nothing at all, a claim, claims and small data files but no manifest, …
const BLOCKS: [u32; 6] = [0, 1, 4, 8, 12, 20];

/// Staging files below a folder.
fn staging(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(staging(&path));
        } else if path.to_string_lossy().contains('#') {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_a_full_disk_says_so_and_leaves_nothing_half_written() {
    let mut shop = Shop::new().await;
    let mut failed = 0;
    // The first run writes its first files on the full disk, too.
    for blocks in BLOCKS {
        shop.live().await;
        let limited = shop.command(&["run"]);
        // Without the trap, the system would kill the program at the first byte too many.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(limited.as_std().get_program()).args(limited.as_std().get_args());
        command.env_clear().current_dir("/").stdin(std::process::Stdio::null()).kill_on_drop(true);
        command.envs(limited.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = finish(&mut command, PATIENCE).await;
        match ran.code {
            Some(0) => {}
            Some(75) => {
                failed += 1;
                assert!(ran.stderr.contains("cannot write"), "{}", ran.stderr);
                assert!(ran.stderr.contains("File too large"), "{}", ran.stderr);
            }
            code => panic!("{blocks} blocks: {code:?}: {}", ran.stderr),
        }
        for folder in [shop.lake(), shop.star()] {
            assert_eq!(staging(&folder), Vec::<String>::new());
        }
        shop.mend(&format!("a disk of {blocks} blocks")).await;
    }
    assert!(failed >= 3, "the limit was met {failed} times");
    shop.verify("the last full disk").await;
}

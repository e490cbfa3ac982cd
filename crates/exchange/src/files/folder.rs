//! Files that somebody else picks up: whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file under its name: under another one first, flushed to the disk, then renamed, and the folder flushed. Whoever
/// looks at the name sees all of it or nothing; written again it takes the place of itself.
///
/// # Errors
/// Of the file system; what was begun is taken away, or stands under a name that begins with a full stop.
pub(crate) fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let begun = folder.join(format!(".{name}.part"));
    let written = write_all(&begun, content).and_then(|()| fs::rename(&begun, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&begun);
    }
    written?;
    flush(folder)
}

fn write_all(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The partner's account is in the folder's group.
        options.mode(0o640);
    }
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Moves a file into another folder, under a name that is free there.
pub(crate) fn move_to(from: &Path, folder: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut free = folder.join(name);
    let mut number = 1;
    while free.exists() {
        number += 1;
        free = folder.join(format!("{name}.{number}"));
    }
    fs::rename(from, &free)?;
    flush(folder)?;
    from.parent().map_or(Ok(()), flush)
}

/// Flushes what a folder lists. A file system over a network may know nothing of that.
fn flush(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_and_takes_its_own_place() {
        let folder = tempfile::tempdir().expect("a folder");
        for content in [&b"one"[..], b"two, longer", b""] {
            write(folder.path(), "a.csv", content).expect("written");
            assert_eq!(
                fs::read(folder.path().join("a.csv")).expect("read"),
                content
            );
            let names = fs::read_dir(folder.path()).expect("listed").count();
            assert_eq!(names, 1, "nothing is left behind");
        }
        let done = folder.path().join("done");
        for expected in ["a.csv", "a.csv.2"] {
            write(folder.path(), "a.csv", b"x").expect("written");
            move_to(&folder.path().join("a.csv"), &done, "a.csv").expect("moved");
            assert!(done.join(expected).exists());
        }
        assert!(write(&folder.path().join("nowhere"), "a", b"").is_err());
    }
}

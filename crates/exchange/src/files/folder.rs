//! Files that somebody else picks up: whole or not there.
//!
//! The partner may write into these folders, so whatever stands there under a name may be a link that leads to what the
//! partner may not read or write. So folders are held open, names are looked up in them alone, and no link is followed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// A folder that is held open.
pub(crate) struct Folder(OwnedFd);

/// A file as it was read.
pub(crate) struct Read {
    /// Nothing where it is larger than was asked for.
    pub(crate) content: Option<Vec<u8>>,
    /// Which one it was, whatever stands under its name by now.
    about: Stat,
}

impl Folder {
    /// Opens one that the operator names, links and all.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// One within it, made where there is none.
    ///
    /// # Errors
    /// Of the file system, and where a link stands there, or a file.
    pub(crate) fn inner(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(
            &self.0,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Reads a file of at most so many bytes.
    ///
    /// # Errors
    /// Of the file system, and where it is a link, or no regular file.
    pub(crate) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Read> {
        // A pipe would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        let about = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut content = Vec::new();
        // It may grow while it is read.
        File::from(opened)
            .take(bytes_max.saturating_add(1))
            .read_to_end(&mut content)?;
        Ok(Read {
            content: (content.len() as u64 <= bytes_max).then_some(content),
            about,
        })
    }

    /// Writes a file under its name: under another one first, flushed to the disk, then renamed, and the folder flushed.
    /// Whoever looks at the name sees all of it or nothing; written again it takes the place of itself.
    ///
    /// # Errors
    /// Of the file system; what was begun is taken away, or stands under a name that begins with a full stop.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let begun = format!(".{name}.part");
        // What a process left behind that was killed; or a link that somebody planted.
        self.remove(&begun)?;
        let written = self.write_all(&begun, content).and_then(|()| {
            rustix::fs::renameat(&self.0, &begun, &self.0, name).map_err(io::Error::from)
        });
        if written.is_err() {
            let _ = self.remove(&begun);
        }
        written?;
        self.flush()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_all(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The partner's account is in the folder's group.
        let mode = Mode::from_raw_mode(0o640);
        let mut file = File::from(rustix::fs::openat(&self.0, name, flags, mode)?);
        file.write_all(content)?;
        file.sync_all()
    }

    /// A name under which nothing stands: the one that is wanted, or that with a number.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn free(&self, name: &str) -> io::Result<String> {
        let (mut free, mut number) = (name.to_owned(), 1);
        // A link that leads nowhere stands there as well.
        while self.stands(&free)? {
            number += 1;
            free = format!("{name}.{number}");
        }
        Ok(free)
    }

    /// Whether something stands under a name, a link too.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn stands(&self, name: &str) -> io::Result<bool> {
        Ok(self.about(name)?.is_some())
    }

    fn about(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(Some(about)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves a file that was read into another folder, under a name that is free there. One that has taken its name since
    /// stays: nobody has read it.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn move_to(&self, name: &str, read: &Read, folder: &Self) -> io::Result<()> {
        let is_it =
            |about: &Stat| (about.st_dev, about.st_ino) == (read.about.st_dev, read.about.st_ino);
        if !self.about(name)?.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        let free = folder.free(name)?;
        rustix::fs::renameat(&self.0, name, &folder.0, &free)?;
        folder.flush()?;
        self.flush()
    }

    /// Flushes what it lists. A file system over a network may know nothing of that.
    fn flush(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.0) {
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_whole_and_takes_its_own_place() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("opened");
        for content in [&b"one"[..], b"two, longer", b""] {
            folder.write("a.csv", content).expect("written");
            assert_eq!(fs::read(place.path().join("a.csv")).expect("read"), content);
            let names = fs::read_dir(place.path()).expect("listed").count();
            assert_eq!(names, 1, "nothing is left behind");
        }
        let done = folder.inner("done").expect("made");
        for expected in ["a.csv", "a.csv.2"] {
            folder.write("a.csv", b"x").expect("written");
            let read = folder.read("a.csv", 1).expect("read");
            assert_eq!(read.content.as_deref(), Some(&b"x"[..]));
            folder.move_to("a.csv", &read, &done).expect("moved");
            assert!(place.path().join("done").join(expected).exists());
        }
        folder.write("a.csv", b"xx").expect("written");
        assert!(folder.read("a.csv", 1).expect("read").content.is_none());
        let read = folder.read("a.csv", 2).expect("read");
        folder.write("a.csv", b"another").expect("written");
        folder.move_to("a.csv", &read, &done).expect("looked at");
        assert!(place.path().join("a.csv").exists(), "nobody has read it");
        assert!(Folder::open(&place.path().join("nowhere")).is_err());
    }

    #[test]
    fn no_link_is_followed() {
        let (place, other) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let secret = other.path().join("key");
        fs::write(&secret, "a secret").expect("written");
        let folder = Folder::open(place.path()).expect("opened");
        let at = |name: &str| place.path().join(name);
        symlink(&secret, at("b.csv")).expect("a link");
        assert!(folder.read("b.csv", 100).is_err());
        symlink(other.path(), at("done")).expect("a link");
        assert!(folder.inner("done").is_err());
        symlink(&secret, at(".c.csv.part")).expect("a link");
        folder.write("c.csv", b"content").expect("written");
        assert_eq!(fs::read(at("c.csv")).expect("read"), b"content");
        symlink(at("nowhere"), at("d.csv")).expect("a link");
        assert_eq!(folder.free("d.csv").expect("a name"), "d.csv.2");
        assert_eq!(fs::read(&secret).expect("read"), b"a secret");
        assert!(folder.read("done", 100).is_err(), "no file at all");
    }
}

//! What the commands say to the person at the terminal.

use std::io::{IsTerminal, Write};

/// Writes a line to standard output. A closed pipe is not an error: `cairn … | head` may close it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error.
pub fn warn(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether somebody watches standard error.
#[must_use]
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Asks for a secret without showing it; from a pipe, reads one line.
///
/// # Errors
/// When nothing can be read.
pub fn ask_secret(prompt: &str) -> std::io::Result<String> {
    if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str(&format!("{prompt}: "))?;
        return terminal.read_secure_line();
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

//! Starts the command line.

fn main() -> std::process::ExitCode {
    cairn::cli::run()
}

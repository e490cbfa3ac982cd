//! Starts the command line.

/// Much of a request is small allocations that end on another thread; see decision 14.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cairn::cli::run()
}

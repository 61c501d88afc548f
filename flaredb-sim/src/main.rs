//! The binary: runs seeds and says what came of them. See `cli`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

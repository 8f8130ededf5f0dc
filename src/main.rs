//! The `undiffuse` command.

fn main() -> std::process::ExitCode {
    undiffuse::cli::main()
}

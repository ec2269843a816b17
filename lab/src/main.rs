//! The laboratory's command line.

use lab::{Paths, Sandbox};
fn main() -> lab::Result<()> {
    let paths = Paths::from_environment();
    match std::env::args().nth(1).as_deref() {
        Some(lab::HOLDER_SUBCOMMAND) => lab::hold(&paths),
        Some("up") => {
            let s = Sandbox::start(&paths, &std::env::current_exe().unwrap())?;
            println!("{:?}", s.holder());
            Ok(())
        }
        Some("down") => Sandbox::attach(&paths).map_or(Ok(()), Sandbox::stop),
        _ => {
            let s = Sandbox::attach(&paths).unwrap();
            s.command(std::env::args().nth(1).unwrap()).args(std::env::args().skip(2)).status()?;
            Ok(())
        }
    }
}

//! A run as it goes, in the cells of a terminal: curves, progress and time left, where the time goes.

mod draw;
mod watched;

pub use draw::draw;
pub use watched::Watched;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// What is shown, as text of so many columns and rows.
pub fn text(watched: &Watched, (width, height): (u16, u16)) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| draw(frame, watched));
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(row).collect()
}

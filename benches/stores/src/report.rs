//! What was measured, for people on the standard output, and as CSV.

use std::fs::File;
use std::io::Write;

use crate::Result;
use crate::engine::Sizes;
use crate::options::Options;

pub(crate) struct Report {
    store: String,
    users: bool,
    csv: Option<File>,
    /// How many sessions there are, in what is reported from now on.
    pub(crate) sessions: usize,
}

impl Report {
    pub(crate) fn new(store: &str, options: &Options) -> Result<Self> {
        let csv = match &options.out {
            None => None,
            Some(folder) => {
                std::fs::create_dir_all(folder)?;
                let mut csv = File::create(folder.join(format!("{store}.csv")))?;
                writeln!(csv, "store,users,sessions,what,unit,median,lowest,highest")?;
                Some(csv)
            }
        };
        let users = options.users;
        println!(
            "\n== {store}, {}",
            if users { "with users" } else { "without users" }
        );
        Ok(Self {
            store: store.to_owned(),
            users,
            csv,
            sessions: 0,
        })
    }

    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        println!("   {text}");
        self.row(text, "setting", ["", "", ""].map(String::from))
    }

    /// One figure: the median of what several rounds came to, with the lowest and the highest.
    pub(crate) fn figure(&mut self, what: &str, unit: &str, rounds: &[f64]) -> Result<()> {
        let mut rounds = rounds.to_vec();
        rounds.sort_by(f64::total_cmp);
        let [Some(lowest), Some(highest)] = [rounds.first(), rounds.last()] else {
            return Err(format!("nothing was measured of {what:?}").into());
        };
        let figures = [rounds[rounds.len() / 2], *lowest, *highest].map(readable);
        let [median, lowest, highest] = &figures;
        let spread = match rounds.len() {
            1 => String::new(),
            _ => format!("({lowest} to {highest})"),
        };
        println!(
            "{:>9}  {what:<52} {median:>12} {unit:<11} {spread}",
            self.sessions
        );
        self.row(what, unit, figures)
    }

    /// What the store takes up for `count` sessions, beyond what it took when it was empty.
    pub(crate) fn sizes(
        &mut self,
        when: &str,
        empty: &Sizes,
        now: &Sizes,
        count: usize,
    ) -> Result<()> {
        for ((what, now), (_, empty)) in now.iter().zip(empty) {
            let bytes = now.saturating_sub(*empty) as f64;
            self.figure(&format!("{when}{what}"), "bytes", &[bytes])?;
            self.figure(
                &format!("{when}{what}, per session"),
                "bytes",
                &[bytes / count as f64],
            )?;
        }
        Ok(())
    }

    fn row(&mut self, what: &str, unit: &str, figures: [String; 3]) -> Result<()> {
        if let Some(csv) = &mut self.csv {
            let Self {
                store,
                users,
                sessions,
                ..
            } = self;
            let [median, lowest, highest] = figures;
            writeln!(
                csv,
                "{store},{users},{sessions},\"{what}\",{unit},{median},{lowest},{highest}"
            )?;
        }
        Ok(())
    }
}

/// More digits would say more than was measured.
fn readable(number: f64) -> String {
    let digits = if number < 10.0 {
        2
    } else {
        usize::from(number < 100.0)
    };
    format!("{number:.digits$}")
}

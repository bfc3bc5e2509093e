//! Starts the program, alone or under `mpirun`, with a time limit: a hang is a failure, not a wait.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No test of ours takes this long, with disks that stand still for a minute while they catch up with a build.
const LIMIT: Duration = Duration::from_secs(300);

/// What a finished program left.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The same, after a check that it went well.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// What it said, after a check that it failed with one message (and did not panic or die).
    #[track_caller]
    pub fn failure(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0 && code != 101), "{self:#?}");
        let messages = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(messages, 1, "one message: {self:#?}");
        self.stderr
    }
}

/// Runs `glasses ARGS` in `dir`.
pub fn glasses(args: &[&str], dir: &Path) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasses"));
    command.args(args).current_dir(dir);
    finish(command)
}

/// Runs `mpirun -n N glasses ARGS` in `dir`. The variable MPIRUN names another launcher (`mpiexec`, `srun`).
pub fn mpirun(n: usize, args: &[&str], dir: &Path) -> Outcome {
    let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let mut command = Command::new(launcher);
    command.arg("-n").arg(n.to_string()).arg(env!("CARGO_BIN_EXE_glasses")).args(args).current_dir(dir);
    // Open MPI gives the root a terminal of its own, and clap would colour what it prints there.
    command.env("NO_COLOR", "1");
    allow_many_ranks(&mut command);
    finish(command)
}

/// Open MPI asks for these as root, and where there are fewer cores than ranks; others ignore them.
pub fn allow_many_ranks(command: &mut Command) {
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
}

/// Runs a line of shell in `dir`; `$GLASSES` is the program.
pub fn shell(line: &str, dir: &Path) -> Outcome {
    let mut command = Command::new("bash");
    command.arg("-c").arg(line).env("GLASSES", env!("CARGO_BIN_EXE_glasses")).current_dir(dir);
    allow_many_ranks(&mut command);
    finish(command)
}

/// Says that a test could not run: into the file that jobs/test.sh reads out at its end, and to whoever watches.
pub fn skipped(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("NOT TESTED: {name}: {why}");
    if let Some(path) = std::env::var_os("SKIPPED_TESTS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{name}: {}", why.replace('\n', " ")).unwrap();
    }
}

/// Waits for the end, or for the time limit, which kills it.
pub fn finish(mut command: Command) -> Outcome {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    // Read while it runs: a full pipe would stop it.
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > LIMIT => {
                // All but the kernel's own threads, which are the children of process 2.
                let columns = "pid,ppid,stat,wchan:24,etimes,args";
                let here = Command::new("ps").args(["--ppid", "2", "-p", "2", "--deselect", "-o", columns]).output();
                let here = here.map(|end| String::from_utf8_lossy(&end.stdout).into_owned()).unwrap_or_default();
                // SIGTERM, so that mpirun ends its ranks too; to the group, as a shell does not pass it on.
                let _ = Command::new("kill").args(["--", &format!("-{}", child.id())]).status();
                std::thread::sleep(Duration::from_secs(2));
                let _ = child.kill();
                panic!("{command:?} hangs beside\n{here}");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    Outcome { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

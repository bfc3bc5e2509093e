//! Python interpreters that tests call: one with the readers of our exports, one with PyTorch.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, finish, skipped};

/// A Python that can `import` what was asked for.
pub struct Python {
    path: PathBuf,
    search: Option<PathBuf>,
}

impl Python {
    /// With onnx, onnxruntime, tensorboard and safetensors: `GLASSES_PYTHON`, or where jobs/python.sh makes it. Where there
    /// is none, `test` is said to be skipped.
    pub fn with_readers(test: &str) -> Option<Python> {
        let path = std::env::var_os("GLASSES_PYTHON").map_or_else(|| venv().join("bin/python"), PathBuf::from);
        let found = Python { path, search: None };
        let imports = "import onnx, onnxruntime, PIL, tensorboard, safetensors.numpy";
        found.or_skipped(
            imports,
            test,
            "no Python with onnx, onnxruntime, tensorboard and safetensors (jobs/python.sh)",
        )
    }

    /// With PyTorch and safetensors: `GLASSES_TORCH`, or the environment of benches/peers.
    pub fn with_torch(test: &str) -> Option<Python> {
        let of_peers = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join("peers-venv/bin/python");
        let path = std::env::var_os("GLASSES_TORCH").map_or_else(of_peers, PathBuf::from);
        let found = Python { path, search: Some(venv().join("extra")) };
        found.or_skipped("import torch, safetensors.torch", test, "no Python with torch (GLASSES_TORCH=…/bin/python)")
    }

    fn or_skipped(self, imports: &str, test: &str, why: &str) -> Option<Python> {
        let works = self.command().arg("-c").arg(imports).output().is_ok_and(|output| output.status.success());
        if works {
            return Some(self);
        }
        skipped(test, why);
        None
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(search) = &self.search {
            command.env("PYTHONPATH", search);
        }
        command
    }

    /// Runs a script in the folder where it lies.
    pub fn run_in(&self, dir: &Path, script: &str) -> Outcome {
        let mut command = self.command();
        command.arg(script).current_dir(dir);
        finish(command)
    }

    /// Runs a script of the repository in `dir`.
    pub fn run(&self, script: &str, args: &[String], dir: &Path) -> Outcome {
        let mut command = self.command();
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).args(args).current_dir(dir);
        finish(command)
    }
}

/// Where jobs/python.sh makes its environment.
pub fn venv() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
    variable("GLASSES_VENV").unwrap_or_else(|| cache().join("glasses/python"))
}

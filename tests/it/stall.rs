//! `--stall-timeout`: a rank that computes is not stuck, however long its rows take; one that stands still is.

use crate::run::shell;

use tempfile::tempdir;

/// A picture takes a good part of a second on one instruction set, a rank's rows of a step many.
const DEEP: &str = r#"name = "deep"
layers = ["conv 3x3x32", "relu", "conv 5x5x32", "relu", "conv 5x5x32", "relu", "maxpool 4", "flatten", "dense classes"]
"#;

/// Seconds after which a rank is given up.
const STALL: f64 = 2.0;

#[test]
fn rows_that_take_longer_than_the_timeout_are_no_stall() {
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("deep.toml"), DEEP).unwrap();
    let line = format!(
        "$GLASSES synth --size 80 --count 90 --out faces.h5 && GLASSES_ISA=scalar NO_COLOR=1 ${{MPIRUN:-mpirun}} -n 2 $GLASSES \
         train --data faces.h5 --model deep.toml --normalize dataset --batch full --epochs 1 --stall-timeout {STALL} --out run"
    );
    shell(&line, dir.path()).success();
    // Else this says nothing.
    let text = std::fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let longest =
        ["forward", "backward"].map(|phase| line["seconds"][phase].as_f64().unwrap()).into_iter().fold(0.0, f64::max);
    assert!(longest > 1.2 * STALL, "{longest} s: make the network larger");
}

#[test]
fn a_rank_that_stands_still_is_found() {
    let dir = tempdir().unwrap();
    let line = format!(
        "$GLASSES synth --size 24 --count 200 --out faces.h5
        ${{MPIRUN:-mpirun}} -n 2 bash -c 'touch pid.$$; exec $GLASSES train --data faces.h5 --epochs 100000 --batch 8 \\
            --checkpoint-every 5 --stall-timeout {STALL} --out run' &
        run=$!
        until ls run/checkpoints/*.h5; do kill -0 $run || exit 99; sleep 0.1; done >&2
        stopped=$(ls pid.* | tail -n 1); stopped=${{stopped#pid.}}
        kill -STOP $stopped; wait $run; code=$?; kill -KILL $stopped; exit $code"
    );
    let end = shell(&line, dir.path());
    assert_eq!(end.code, Some(3), "{end:?}");
    assert!(end.stderr.contains("no word from it for") && end.stderr.contains("all ranks end"), "{end:?}");
}

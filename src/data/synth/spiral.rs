//! The three-armed spiral: two features, three classes, and no straight line between them.

use crate::kernels::rng::{Purpose, Stream};

/// The names of the classes, in label order.
pub const CLASSES: [&str; 3] = ["arm 0", "arm 1", "arm 2"];

/// The stream's `layer`; the faces of the same seed use 0 and 1.
const LAYER: usize = 2;

/// `count` points (x, y) and their labels, one arm after the other; the first arms hold one more where three does not
/// divide `count`. For point `i` of `n` in arm `a`: r = i / (n - 1), t = 4 (a + r) + 0.2 · normal,
/// x = r sin(2.5 t), y = r cos(2.5 t).
pub fn points(seed: u64, count: usize) -> (Vec<[f32; 2]>, Vec<u8>) {
    let (mut points, mut labels) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for arm in 0..3 {
        let n = (count + 2 - arm) / 3;
        let mut noise = vec![0.0; n];
        Stream::new(seed, Purpose::Synth, LAYER, 0, arm).fill_normal(&mut noise, 0.2);
        for (i, &noise) in noise.iter().enumerate() {
            let r = i as f64 / (n.max(2) - 1) as f64;
            let (sin, cos) = libm::sincos(2.5 * (4.0 * (arm as f64 + r) + f64::from(noise)));
            points.push([(r * sin) as f32, (r * cos) as f32]);
            labels.push(arm as u8);
        }
    }
    (points, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_in_the_unit_disc_from_its_center_to_its_edge() {
        let (points, labels) = points(1, 600);
        let radius = |[x, y]: [f32; 2]| f64::from(x).hypot(f64::from(y));
        assert!(points.iter().all(|&p| radius(p) <= 1.0 + 1e-6));
        for arm in 0..3 {
            assert!(labels[arm * 200..][..200].iter().all(|&l| usize::from(l) == arm));
            assert_eq!(points[arm * 200], [0.0, 0.0]);
            assert!((radius(points[arm * 200 + 199]) - 1.0).abs() < 1e-6);
        }
        // Without noise, half-way along arm 1: t = 6; the noise moves it by 0.2 · 2.5 · r radians at a time.
        let [x, y] = points[300];
        let off = (f64::from(x).atan2(f64::from(y)) - 2.5 * 4.0 * (1.0 + 100.0 / 199.0))
            .rem_euclid(2.0 * std::f64::consts::PI);
        assert!(off.min(2.0 * std::f64::consts::PI - off) < 2.5, "{off}");
    }

    #[test]
    fn any_count_is_shared_out_among_the_arms() {
        for count in 3..20 {
            let (points, labels) = points(1, count);
            assert_eq!((points.len(), labels.len()), (count, count));
            let of = |arm| labels.iter().filter(|&&l| l == arm).count();
            assert!(of(0) - of(2) <= 1 && of(0) >= of(1) && of(1) >= of(2));
        }
    }
}

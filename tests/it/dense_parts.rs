//! Dense layers in parts: some inputs only, the rows in groups that lie apart. The bits are those of the whole, on every
//! instruction set. And parameters in units, which optimizers take one by one.

use std::ops::Range;

use glasses::kernels::{
    self, DENSE_BLOCK, DenseShape, Groups, GroupsMut, Isa, Leaf, ReductionTree, Rows, RowsMut, leaves, tree,
};
use glasses::model::{Engine, Init, Model, Params, Units, zoo};
use glasses::optim::{Optimizer, OptimizerKind, Settings};

use crate::kernels::numbers;

/// Groups of rows, each of which holds a stretch of the inputs, with something between its rows that nobody may touch.
struct Apart {
    groups: Vec<Vec<f32>>,
    rows: Vec<usize>,
    stretch: Range<usize>,
    gap: usize,
}

impl Apart {
    /// `values` are whole rows of `inputs`; `rows` of them in each group.
    fn new(values: &[f32], inputs: usize, rows: &[usize], stretch: Range<usize>, gap: usize) -> Apart {
        let mut all = values.chunks_exact(inputs);
        let groups = rows.iter().map(|&count| {
            let mut group = vec![f32::NAN; count * (stretch.len() + gap)];
            for (to, from) in group.chunks_exact_mut((stretch.len() + gap).max(1)).zip(all.by_ref().take(count)) {
                to[..stretch.len()].copy_from_slice(&from[stretch.clone()]);
            }
            group
        });
        Apart { groups: groups.collect(), rows: rows.to_vec(), stretch, gap }
    }

    /// The stretch of every row, one after another, and whether what lies between is as it was.
    fn gather(&self) -> (Vec<f32>, bool) {
        let rows = || self.groups.iter().flat_map(|group| group.chunks_exact((self.stretch.len() + self.gap).max(1)));
        let values = rows().flat_map(|row| row[..self.stretch.len()].to_vec()).collect();
        (values, rows().all(|row| row[self.stretch.len()..].iter().all(|value| value.is_nan())))
    }
}

impl Groups for Apart {
    fn count(&self) -> usize {
        self.groups.len()
    }
    fn rows(&self, group: usize) -> Rows<'_> {
        let (stride, first) = (self.stretch.len() + self.gap, self.stretch.start);
        Rows { values: &self.groups[group], stride, first, count: self.rows[group] }
    }
}

impl GroupsMut for Apart {
    fn count(&self) -> usize {
        self.groups.len()
    }
    fn rows_mut(&mut self, group: usize) -> RowsMut<'_> {
        let (stride, first) = (self.stretch.len() + self.gap, self.stretch.start);
        RowsMut { values: &mut self.groups[group], stride, first, count: self.rows[group] }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A layer, its rows, and what the whole gives on plain scalar code.
struct Case {
    shape: DenseShape,
    rows: Vec<usize>,
    leaves: Vec<Leaf>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    input: Vec<f32>,
    d_output: Vec<f32>,
    output: Vec<u32>,
    d_input: Vec<f32>,
    d_weight: Vec<f32>,
    d_bias: Vec<u32>,
}

impl Case {
    fn new(inputs: usize, outputs: usize, rows: &[usize]) -> Case {
        let (shape, batch): (_, usize) = (DenseShape { inputs, outputs }, rows.iter().sum());
        let (weight, bias) = (numbers(1, inputs * outputs, 0.1), numbers(2, outputs, 1.0));
        let (input, d_output) = (numbers(3, batch * inputs, 1.0), numbers(4, batch * outputs, 0.1));
        let mut of_rows = Vec::new();
        leaves(rows, &mut of_rows);
        let [mut output, mut d_input] = [vec![f32::NAN; batch * outputs], vec![f32::NAN; batch * inputs]];
        let [mut d_weight, mut d_bias] = [vec![f32::NAN; inputs * outputs], vec![f32::NAN; outputs]];
        let scratch = &mut vec![f32::NAN; kernels::dense_scratch(shape, batch)];
        Isa::Scalar.with(|| {
            kernels::dense_forward(shape, batch, &input, &weight, &bias, &mut output, scratch);
            kernels::dense_backward_data(shape, batch, &d_output, &weight, &mut d_input, scratch);
            let [d_weight, d_bias] = [&mut d_weight, &mut d_bias];
            kernels::dense_backward_weights(shape, &of_rows, &input, &d_output, d_weight, d_bias, false, scratch);
        });
        let (output, d_bias, rows) = (bits(&output), bits(&d_bias), rows.to_vec());
        Case { shape, rows, leaves: of_rows, weight, bias, input, d_output, output, d_input, d_weight, d_bias }
    }

    fn batch(&self) -> usize {
        self.rows.iter().sum()
    }

    /// Some columns of `values`, rows of `inputs`.
    fn columns(&self, values: &[f32], range: &Range<usize>) -> Vec<u32> {
        values.chunks_exact(self.shape.inputs).flat_map(|row| bits(&row[range.clone()])).collect()
    }

    /// Owners that have the weights of some blocks each form their sums for all rows; merged, they are the outputs.
    fn forward(&self, owners: usize, what: &str) {
        let (shape, outputs) = (self.shape, self.shape.outputs);
        let blocks = shape.inputs.div_ceil(DENSE_BLOCK);
        let end = |owner: usize| (owner + 1) * blocks / owners;
        let mut reduction = ReductionTree::default();
        let mut sums: Vec<Vec<f32>> = Vec::new();
        for owner in 0..owners {
            reduction.build(&vec![1; blocks], (0..owners).map(end), owner);
            let own = if owner == 0 { 0 } else { end(owner - 1) }..end(owner);
            let stretch = own.start * DENSE_BLOCK..shape.inputs.min(own.end * DENSE_BLOCK);
            let input = Apart::new(&self.input, shape.inputs, &self.rows, stretch, owner % 2 * 5);
            let room: usize = self.rows.iter().map(|&rows| kernels::dense_forward_sums(shape, rows)).sum();
            let mut partials = vec![f32::NAN; room];
            let merges = |block: usize| reduction.own[block - own.start].merges;
            kernels::dense_forward_blocks(shape, &input, own.clone(), &merges, &self.weight, &mut partials);
            for sum in 0..reduction.sums_of[owner] {
                let mut start = 0;
                let of_groups = self.rows.iter().flat_map(|&rows| {
                    let len = rows * outputs;
                    let of_group = partials[start + sum * len..start + (sum + 1) * len].to_vec();
                    start += kernels::dense_forward_sums(shape, rows);
                    of_group
                });
                sums.push(of_groups.collect());
            }
        }
        let [mut total, mut output] = [(); 2].map(|()| vec![f32::NAN; self.batch() * outputs]);
        reduction.merge_slices(|sum| &sums[sum], &mut total);
        kernels::dense_outputs(&total, &self.bias, &mut output);
        assert!(bits(&output) == self.output, "forward by {owners} owners of {what}");
    }

    /// The gradients of some inputs, and of their weights; the rest is not touched.
    fn backward(&self, range: Range<usize>, stretch: Range<usize>, gap: usize, what: &str) {
        let (shape, outputs) = (self.shape, self.shape.outputs);
        let nothing = vec![f32::NAN; self.input.len()];
        let mut d_input = Apart::new(&nothing, shape.inputs, &self.rows, stretch.clone(), gap);
        let mut turned = vec![f32::NAN; kernels::dense_turned(shape, self.batch())];
        kernels::dense_turn(shape, &self.d_output, &mut turned);
        kernels::dense_backward_inputs(shape, range.clone(), &self.weight, &mut d_input, &mut turned);
        let (got, untouched) = d_input.gather();
        let width = stretch.len();
        let inside = range.start - stretch.start..range.end - stretch.start;
        let columns: Vec<u32> = got.chunks_exact(width.max(1)).flat_map(|row| bits(&row[inside.clone()])).collect();
        assert!(columns == self.columns(&self.d_input, &range), "gradients of inputs {range:?} of {what}");
        let outside = |row: &[f32]| row.iter().enumerate().all(|(i, v)| inside.contains(&i) || v.is_nan());
        assert!(untouched && got.chunks_exact(width.max(1)).all(outside), "beside inputs {range:?} of {what}");
        let input = Apart::new(&self.input, shape.inputs, &self.rows, stretch, gap);
        let mut d_weight = vec![f32::NAN; range.len() * outputs];
        let mut scratch = vec![f32::NAN; kernels::dense_backward_scratch(self.batch())];
        let (of_rows, d_output) = (&self.leaves, &self.d_output);
        let into = &mut d_weight;
        kernels::dense_backward_range(shape, range.clone(), of_rows, &input, d_output, into, false, &mut scratch);
        let want = &self.d_weight[range.start * outputs..range.end * outputs];
        assert!(bits(&d_weight) == bits(want), "gradients of the weights of inputs {range:?} of {what}");
        let mut d_bias = vec![f32::NAN; outputs];
        kernels::dense_backward_bias(outputs, of_rows, d_output, &mut d_bias, false, &mut scratch);
        assert!(bits(&d_bias) == self.d_bias, "gradients of the biases of {what}");
    }
}

#[test]
fn parts_of_a_dense_layer_give_the_bits_of_the_whole_on_every_instruction_set() {
    let groups = [&[1][..], &[4], &[1, 0, 2], &[0, 3, 0], &[5, 4, 7, 1], &[17, 16], &[2; 9], &[33, 0, 31]];
    let outputs = [1, 2, 5, 8, 11, 16, 17, 40, 128];
    let mut turn = 0;
    for inputs in [1, 47, 64, 255, 256, 257, 700, 1300, 2304] {
        for rows in groups {
            // Widths take turns.
            turn += 1;
            let case = Case::new(inputs, outputs[turn % outputs.len()], rows);
            let middle = (inputs / 3)..(inputs / 3 + (inputs / 2).max(1)).min(inputs);
            for isa in Isa::available() {
                let what = format!("{:?}, rows {rows:?} on {}", case.shape, isa.name());
                isa.with(|| {
                    let blocks = inputs.div_ceil(DENSE_BLOCK);
                    for owners in [1, 2, 3, 5, 9, 12] {
                        // Beyond one a block, some have none.
                        if owners <= blocks + 3 {
                            case.forward(owners, &what);
                        }
                    }
                    case.backward(0..inputs, 0..inputs, 0, &what);
                    case.backward(middle.clone(), 0..inputs, 7, &what);
                    case.backward(middle.clone(), middle.clone(), 0, &what);
                    case.backward(middle.clone(), middle.start / 2..middle.end, 3, &what);
                    // As a training step takes them.
                    for first in (0..inputs).step_by(48) {
                        case.backward(first..inputs.min(first + 48), 0..inputs, 0, &what);
                    }
                });
            }
        }
    }
}

#[test]
fn units_are_whole_inputs_and_cover_every_parameter_once() {
    for name in zoo::names() {
        let (input, flat) = if name == "spiral" { ([1, 1, 2], true) } else { ([24, 24, 3], false) };
        let model = Model::new(zoo::find(name).unwrap(), input, flat, 3, Engine::Direct).unwrap();
        let all = Units::of_params(&model.table).iter().collect::<Vec<_>>();
        assert_eq!((all[0].start, all[all.len() - 1].end), (0, model.parameters()));
        assert!(all.windows(2).all(|two| two[0].end == two[1].start) && all.iter().all(|unit| !unit.is_empty()));
        for unit in &all {
            let of = |param: &&glasses::model::Param| param.range.contains(&unit.start);
            let param = model.table.iter().find(of).unwrap();
            assert!(unit.end <= param.range.end, "{unit:?} reaches beyond {}", param.name);
            if let [_, outputs] = param.shape[..] {
                let start = unit.start - param.range.start;
                assert!(start.is_multiple_of(64 * outputs) && unit.len().is_multiple_of(outputs), "{}", param.name);
            }
        }
    }
}

#[test]
fn an_optimizer_updates_parts_in_any_order_to_the_bits_of_the_whole() {
    let model = Model::new(zoo::find("mnist").unwrap(), [28, 28, 1], false, 10, Engine::Direct).unwrap();
    let (all, len) = (Units::of_params(&model.table).iter().collect::<Vec<_>>(), model.parameters());
    let initial = Params::initial(model.table.clone(), Init::He, 3);
    use OptimizerKind::{Adam, Adamw, Momentum, Nesterov, Sgd};
    for (kind, clip_value, clip_norm) in [
        (Sgd, None, None),
        (Momentum, Some(0.01), None),
        (Nesterov, None, Some(0.5)),
        (Adam, Some(0.01), Some(0.5)),
        (Adamw, None, Some(1e9)),
    ] {
        let settings = Settings { kind, momentum: 0.9, weight_decay: 0.01, clip_value, clip_norm };
        let run = |parts: &[Range<usize>], backwards: bool| {
            let (mut params, mut optimizer) = (initial.clone(), Optimizer::new(settings, len));
            for step in 0..3 {
                let mut gradient = numbers(7 + step, len, 1.0);
                optimizer.begin(16, 0.01);
                if optimizer.wants_norm() {
                    // A norm knows units only, merged in the tree.
                    let mut squares = vec![None; all.len()];
                    let order: Vec<usize> =
                        if backwards { (0..all.len()).rev().collect() } else { (0..all.len()).collect() };
                    for unit in order {
                        squares[unit] = Some(optimizer.measure(&mut gradient[all[unit].clone()]));
                    }
                    optimizer.limit(tree(all.len(), &mut |unit| squares[unit], &|a, b| a + b).unwrap());
                }
                let mut update = |part: &Range<usize>| {
                    optimizer.update(part.start, &mut params.values[part.clone()], &mut gradient[part.clone()]);
                };
                if backwards {
                    parts.iter().rev().for_each(&mut update)
                } else {
                    parts.iter().for_each(&mut update)
                }
                assert!(optimizer.finite());
            }
            let state = optimizer.state();
            [&params.values[..], &state.first[..], &state.second[..]].map(bits)
        };
        let want = run(std::slice::from_ref(&(0..len)), false);
        let uneven: Vec<Range<usize>> = (0..len).step_by(1237).map(|at| at..len.min(at + 1237)).collect();
        for parts in [&all, &uneven] {
            assert!(run(parts, false) == want && run(parts, true) == want, "{settings:?}");
        }
        if clip_norm.is_none() {
            let (mut params, mut optimizer) = (initial.clone(), Optimizer::new(settings, len));
            (0..3).for_each(|step| {
                assert!(optimizer.step(&mut params.values, &mut numbers(7 + step, len, 1.0), 16, 0.01))
            });
            assert!(bits(&params.values) == want[0], "{settings:?}: a whole step");
        }
    }
}

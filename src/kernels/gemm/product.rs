//! Matrix products by the crate `matrixmultiply`: the first engine.

/// A matrix in a slice: rows × columns, with a step from row to row and from column to column.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a {rows}x{columns} matrix");
        Matrix { values, rows, columns, row_step: columns, column_step: 1 }
    }

    /// The same values, rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

/// `output = a · b + beta · output`, with `output` row-major `[a.rows, b.columns]`. With `beta` 0 what `output` held is
/// not read.
pub fn gemm(a: Matrix<'_>, b: Matrix<'_>, beta: f32, output: &mut [f32]) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    assert_eq!(output.len(), a.rows * b.columns, "output size");
    debug_assert!(a.values.len() == a.rows * a.columns && b.values.len() == b.rows * b.columns);
    // SAFETY: `Matrix` is only made by `new`, which checks that `values` holds rows × columns, and `transposed` keeps
    // the set of addressed elements; the asserts above tie the three sizes together; `output` is exclusive.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.columns,
            b.columns,
            1.0,
            a.values.as_ptr(),
            a.row_step as isize,
            a.column_step as isize,
            b.values.as_ptr(),
            b.row_step as isize,
            b.column_step as isize,
            beta,
            output.as_mut_ptr(),
            b.columns as isize,
            1,
        );
    }
}

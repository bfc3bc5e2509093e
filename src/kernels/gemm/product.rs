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

/// Columns `first ..` of a row-major matrix that is written.
pub struct MatrixMut<'a> {
    /// The matrix, whole.
    pub values: &'a mut [f32],
    /// The first column that is written.
    pub first: usize,
    /// All its columns.
    pub whole: usize,
}

impl<'a> MatrixMut<'a> {
    /// All of a matrix of `columns` columns.
    pub fn new(values: &'a mut [f32], columns: usize) -> Self {
        MatrixMut { values, first: 0, whole: columns }
    }
}

impl<'a> Matrix<'a> {
    /// `count` columns from `first` on of a row-major matrix of `whole` columns.
    pub fn columns(values: &'a [f32], whole: usize, first: usize, count: usize) -> Self {
        assert!(values.len().is_multiple_of(whole) && first + count <= whole, "columns {first}, {count} of {whole}");
        Matrix { values: &values[first..], rows: values.len() / whole, columns: count, row_step: whole, column_step: 1 }
    }

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

/// `output = a · b + beta · output`, with as many columns of `output` as `b` has. With `beta` 0 what `output` held is
/// not read.
pub fn gemm(a: Matrix<'_>, b: Matrix<'_>, beta: f32, output: MatrixMut<'_>) {
    let MatrixMut { values, first, whole } = output;
    assert_eq!(a.columns, b.rows, "inner sizes");
    assert!(values.len() == a.rows * whole && first + b.columns <= whole, "output size");
    for matrix in [a, b] {
        let last =
            matrix.rows.saturating_sub(1) * matrix.row_step + matrix.columns.saturating_sub(1) * matrix.column_step;
        assert!(matrix.rows * matrix.columns == 0 || last < matrix.values.len(), "matrix size");
    }
    // SAFETY: the asserts above: both matrices end inside of their values, the columns that are written inside of `values`, and
    // the three sizes fit one another; `values` is exclusive.
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
            values.as_mut_ptr().wrapping_add(first),
            whole as isize,
            1,
        );
    }
}

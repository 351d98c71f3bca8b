const POLYNOMIAL = 0xedb88320;

/**
 * The CRC-32 of two byte strings put together, from the CRC of each and the length of the second: the first CRC is shifted by
 * that many zero bytes, each doubling being one squared matrix over GF(2). `node:zlib`'s `crc32` gives the parts.
 */
export function crc32Combine(first: number, second: number, secondLengthBytes: number): number {
  let shifted = first;
  // The operator for one zero bit, squared three times: one zero byte.
  let operator = square(square(square(oneZeroBit())));
  for (let left = secondLengthBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = times(operator, shifted);
    operator = square(operator);
  }
  return (shifted ^ second) >>> 0;
}

/** 32 columns; column i is where bit i goes. */
type Matrix = readonly number[];

function oneZeroBit(): Matrix {
  return Array.from({ length: 32 }, (_, bit) => (bit === 0 ? POLYNOMIAL : 1 << (bit - 1)));
}

function times(matrix: Matrix, vector: number): number {
  let sum = 0;
  for (let bit = 0; bit < 32; bit++) {
    if ((vector >>> bit) & 1) sum ^= matrix[bit] ?? 0;
  }
  return sum;
}

function square(matrix: Matrix): Matrix {
  return matrix.map((column) => times(matrix, column));
}

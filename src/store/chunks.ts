const CHUNK_ROWS: readonly number[] = [64, 8, 1];

/**
 * Cuts rows into pieces of few different lengths, so that inserts of many rows are few different statements: each has a bounded
 * number of parameters, and all of them together stay prepared.
 */
export function chunksOf<Row>(rows: readonly Row[]): Row[][] {
  const chunks: Row[][] = [];
  let start = 0;
  for (const size of CHUNK_ROWS) {
    for (; rows.length - start >= size; start += size) chunks.push(rows.slice(start, start + size));
  }
  return chunks;
}

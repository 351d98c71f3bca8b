/** The records of a pax extended header: `<length of the record> <key>=<value>\n`; a value may hold any byte. */
export interface PaxRecord {
  readonly key: string;
  readonly value: Buffer;
  /** The record as it stands in the archive. */
  readonly raw: Buffer;
}

export function parsePax(body: Buffer): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const space = body.indexOf(0x20, at);
    const bytes = Number(body.toString("latin1", at, space));
    const equals = body.indexOf(0x3d, space);
    if (!(bytes > 0) || equals < 0 || at + bytes > body.length)
      throw new RangeError("a pax header is damaged");
    records.push({
      key: body.toString("utf8", space + 1, equals),
      value: body.subarray(equals + 1, at + bytes - 1),
      raw: body.subarray(at, at + bytes),
    });
    at += bytes;
  }
  return records;
}

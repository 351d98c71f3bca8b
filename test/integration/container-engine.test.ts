import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";

/** The answer of the guest's resolver to a query; undefined when it gives none. */
function answerTo(query: Buffer): Buffer | undefined {
  const text = readFileSync(guestFile("container-engine"), "utf8");
  const [body = ""] = /^sub no_such_name \{.*?^\}/ms.exec(text) ?? [];
  const script = `my $QUESTION_AT = 12; ${body} binmode STDIN; binmode STDOUT; local $/; my $a = no_such_name(scalar <STDIN>); print defined $a ? "+$a" : "-";`;
  const said = execFileSync("/usr/bin/perl", ["-Mstrict", "-Mwarnings=FATAL,all", "-e", script], {
    input: query,
  });
  return said.toString("latin1", 0, 1) === "+" ? said.subarray(1) : undefined;
}

/** A query with one question, as glibc and musl send it, and perhaps with EDNS behind it. */
function aQuery({
  name = "db.example.com",
  flags = 0x0100,
  questions = 1,
  more = Buffer.alloc(0),
} = {}): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xbeef, 0);
  head.writeUInt16BE(flags, 2);
  head.writeUInt16BE(questions, 4);
  head.writeUInt16BE(more.length > 0 ? 1 : 0, 10);
  const labels = name
    .split(".")
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1]), more]);
}

describe("the resolver of a machine that runs containers", () => {
  test("says of every name that it does not exist, with the query's id and question", () => {
    const query = aQuery();

    const answer = answerTo(query);

    expect(answer?.readUInt16BE(0)).toBe(0xbeef);
    // An answer to a query that wanted recursion, from one who has it: NXDOMAIN.
    expect(answer?.readUInt16BE(2)).toBe(0x8183);
    expect(answer?.subarray(4, 12)).toEqual(Buffer.from([0, 1, 0, 0, 0, 0, 0, 0]));
    expect(answer?.subarray(12)).toEqual(query.subarray(12));
  });

  test("leaves out what follows the question", () => {
    const edns = Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);

    expect(answerTo(aQuery({ more: edns }))).toEqual(answerTo(aQuery()));
  });

  test.each([
    ["an answer", aQuery({ flags: 0x8180 })],
    ["two questions", aQuery({ questions: 2 })],
    ["a name without its end", aQuery().subarray(0, 20)],
    ["a question without its type", aQuery().subarray(0, -4)],
    ["half a head", Buffer.alloc(5)],
  ])("does not answer to %s", (_, query) => {
    expect(answerTo(query)).toBeUndefined();
  });
});

import { expect, test } from "vitest";
import { evaluateStatus } from "./release-signature.ts";

const OURS = "931DA69CFA3AFEBBC97DAA8C6C57C29C6BA75A4E";
const SUBKEY = "0123456789ABCDEF0123456789ABCDEF01234567";
const OTHER = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
const valid = (primary: string, by = primary, hash = 8) =>
  `VALIDSIG ${by} 2026-02-19 1771459200 0 4 0 1 ${hash} 00 ${primary}`;

test.each([
  ["a good signature", ["NEWSIG", "GOODSIG 6C57 GitLab", valid(OURS)], "good"],
  ["one by a subkey of the key", ["GOODSIG 0123 GitLab", valid(OURS, SUBKEY, 10)], "good"],
  ["one in lower case", ["GOODSIG 6C57 GitLab", valid(OURS.toLowerCase())], "good"],
  ["a changed file", ["NEWSIG", "BADSIG 6C57 GitLab"], "bad"],
  ["a good and a bad one", ["GOODSIG 6C57 GitLab", valid(OURS), "NEWSIG", "BADSIG 6C57 GitLab"], "bad"],
  ["another key that was in the file", ["GOODSIG FFFF Mallory", valid(OTHER)], "other-key"],
  ["a name that looks like another line", ["GOODSIG FFFF x VALIDSIG", `NOTE ${valid(OURS)}`], "none"],
  ["an unknown key", ["ERRSIG FFFF 1 8 00 1 9 FFFF", "NO_PUBKEY FFFF"], "other-key"],
  ["an expired key", ["KEYEXPIRED 1777334400", "EXPKEYSIG 6C57 GitLab", valid(OURS)], "expired-key"],
  ["an expired signature", ["EXPSIG 6C57 GitLab", valid(OURS)], "expired-signature"],
  ["a revoked key", ["REVKEYSIG 6C57 GitLab", valid(OURS)], "revoked-key"],
  ["a signature over SHA-1", ["GOODSIG 6C57 GitLab", valid(OURS, OURS, 2)], "weak"],
  ["no signature", ["NODATA 1", "NODATA 2"], "none"],
  ["nothing", [], "none"],
])("gpgv's words about %s", (_, lines, kind) => {
  expect(evaluateStatus(lines, OURS).kind).toBe(kind);
});

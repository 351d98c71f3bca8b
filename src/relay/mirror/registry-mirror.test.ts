import { expect, test } from "vitest";
import { imageNamed, loginIn } from "./registry-mirror.ts";

test.each([
  ["library/node", undefined, "docker.io/library/node"],
  ["node", undefined, "docker.io/node"],
  ["team/tool", "R.example.org:5000", "r.example.org:5000/team/tool"],
  ["docker.io/library/node", undefined, "docker.io/library/node"],
  ["r.example.org__5000/team/tool", undefined, "r.example.org:5000/team/tool"],
  ["localhost__5000/tool", undefined, "localhost:5000/tool"],
  ["quay.io/team/tool", "quay.io", "quay.io/quay.io/team/tool"],
  // No host alone: an image of that name.
  ["a.b", undefined, "docker.io/a.b"],
])("%s with ns %s is %s", (name, ns, image) => {
  expect(imageNamed(name, ns)).toBe(image);
});

test.each([
  [undefined, undefined],
  ["Bearer anyone", undefined],
  // What podman sends that has no login.
  [`Basic ${btoa(":")}`, undefined],
  [`Basic ${btoa("me:it:is")}`, ["me", "it:is"]],
  [`Bearer ${Buffer.from("me:ö?>").toString("base64url")}`, ["me", "ö?>"]],
])("the login in %s is %j", (header, login) => {
  const found = loginIn(header);

  expect(found && [found.username, found.password.reveal()]).toEqual(login);
});

test.each(["Bearer x", "Bearer a.b.c", "Digest x", "Basic !"])("%s is no login of ours", (header) => {
  expect(() => loginIn(header)).toThrow(expect.objectContaining({ status: 401 }));
});

import { describe, expect, test } from "vitest";
import {
  chooseContainersSources,
  choosePackageSources,
  packagesOf,
  parseHostRelease,
  parseIndexTargets,
  runsContainers,
  variants,
} from "./packages.ts";

const host = { id: "debian", codename: "bookworm" };

function target(
  codename: string,
  more: Partial<Record<"origin" | "uri" | "component", string>> = {},
): string {
  const { origin = "Debian", uri = "http://mirror.example.com/debian/", component = "main" } = more;
  return [
    "MetaKey: main/binary-amd64/Packages",
    `Codename: ${codename}`,
    `Origin: ${origin}`,
    `Component: ${component}`,
    `Repo-URI: ${uri}`,
    "Fallback-Of: ",
  ].join("\n");
}

describe("package sources", () => {
  test("are the host's mirrors of its own release, checked against the distribution's keyring", () => {
    const targets = parseIndexTargets(
      [target("bookworm"), target("bookworm-updates"), target("bookworm-security")].join("\n\n"),
    );

    const { suite, build } = choosePackageSources(host, targets, {});

    const keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    expect(suite).toBe("bookworm");
    expect(build).toEqual([
      `deb ${keyring} http://mirror.example.com/debian/ bookworm main`,
      `deb ${keyring} http://mirror.example.com/debian/ bookworm-security main`,
      `deb ${keyring} http://mirror.example.com/debian/ bookworm-updates main`,
    ]);
  });

  test("leave out other vendors, other releases, backports and non-free parts", () => {
    const text = [
      target("bookworm"),
      target("nodistro", { origin: ". nodistro", uri: "https://packages.example.com/node/" }),
      target("bookworm", { origin: "Docker", uri: "https://docker.example.com/" }),
      target("sid"),
      target("bookworm-backports"),
      target("bookworm", { component: "non-free" }),
    ].join("\n\n");

    const { build } = choosePackageSources(host, parseIndexTargets(text), {});

    expect(build).toHaveLength(1);
  });

  test("in the image are the public ones, whatever mirror it was built from", () => {
    const { guest } = choosePackageSources(host, parseIndexTargets(target("bookworm")), {});

    expect(guest).toContain("deb http://deb.debian.org/debian bookworm main");
    expect(guest.join()).not.toContain("mirror.example.com");
  });

  test("take another suite from the same mirrors", () => {
    const targets = parseIndexTargets([target("bookworm"), target("bookworm-security")].join("\n\n"));

    const { suite, build } = choosePackageSources(host, targets, { suite: "trixie" });

    expect(suite).toBe("trixie");
    expect(build.map((line) => line.split(" ")[3])).toEqual(["trixie", "trixie-security"]);
  });

  test("can be configured; passwords in them do not stay in the image", () => {
    const configured = ["deb [trusted=yes] http://user:secret@mirror.example.com/debian bookworm main"];

    const chosen = choosePackageSources(host, [], { configured });

    expect(chosen.build).toEqual(configured);
    expect(chosen.guest).toEqual(["deb http://mirror.example.com/debian bookworm main"]);
    expect(chosen.suite).toBe("bookworm");
  });

  test("that are not there are an error that says what to do", () => {
    expect(() => choosePackageSources(host, parseIndexTargets(target("sid")), {})).toThrow(
      expect.objectContaining({ code: "image_no_sources", hint: expect.stringContaining("images.sources") }),
    );
  });

  test("of Ubuntu use Ubuntu's keyring and public archive", () => {
    const text = target("noble", { origin: "Ubuntu", uri: "http://mirror.example.com/ubuntu/" });

    const chosen = choosePackageSources({ id: "ubuntu", codename: "noble" }, parseIndexTargets(text), {});

    expect(chosen.distribution).toBe("ubuntu");
    expect(chosen.build[0]).toContain("ubuntu-archive-keyring.gpg");
    expect(chosen.guest[0]).toBe("deb http://archive.ubuntu.com/ubuntu noble main universe");
  });
});

describe("package sources of an image that runs containers", () => {
  const targets = parseIndexTargets([target("bookworm"), target("bookworm-security")].join("\n\n"));

  test("are Debian 13's, from the mirrors of the host whatever its release", () => {
    const { suite, build, guest } = chooseContainersSources(host, targets);

    expect(suite).toBe("trixie");
    expect(build.map((line) => line.split(" ").slice(2, 4))).toEqual([
      ["http://mirror.example.com/debian/", "trixie"],
      ["http://mirror.example.com/debian/", "trixie-security"],
    ]);
    expect(guest[0]).toBe("deb http://deb.debian.org/debian trixie main");
  });

  test("are Debian's public archive where the host is another distribution", () => {
    const chosen = chooseContainersSources({ id: "ubuntu", codename: "noble" }, []);

    expect(chosen.distribution).toBe("debian");
    expect(chosen.build[0]).toBe(
      "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main",
    );
  });

  test("are those configured, of that release", () => {
    const configured = [
      "deb http://m.example.com/debian bookworm main",
      "deb [trusted=yes] http://m.example.com/debian-security bookworm-security main contrib",
      "deb http://m.example.com/debian trixie-updates main",
    ];

    const { suite, build } = chooseContainersSources(host, [], configured);

    expect(suite).toBe("trixie");
    expect(build).toEqual([
      "deb http://m.example.com/debian trixie main",
      "deb [trusted=yes] http://m.example.com/debian-security trixie-security main contrib",
      "deb http://m.example.com/debian trixie-updates main",
    ]);
  });
});

test("only the variants that run containers have an engine, with all of base, and one of them Docker's", () => {
  expect(packagesOf("base")).not.toContain("podman");
  expect(packagesOf("full")).not.toContain("podman");
  expect(packagesOf("containers")).toEqual(
    expect.arrayContaining([...packagesOf("base"), "podman", "nftables"]),
  );
  expect(packagesOf("containers")).not.toContain("docker.io");
  expect(packagesOf("docker")).toEqual(expect.arrayContaining([...packagesOf("containers"), "docker.io"]));
  expect(variants.filter(runsContainers)).toEqual(["containers", "docker"]);
});

test("the host's release is read with and without quotes", () => {
  expect(parseHostRelease('NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\nID=debian\n')).toEqual(host);
  expect(parseHostRelease('ID="ubuntu"\nVERSION_CODENAME="noble"\n')).toEqual({
    id: "ubuntu",
    codename: "noble",
  });
  expect(parseHostRelease("")).toEqual({ id: "", codename: "" });
});

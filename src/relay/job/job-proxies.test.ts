import { describe, expect, test } from "vitest";
import { foreignProxies, serviceNames, withRelayExempt } from "./payload.ts";

const plain = (key: string, value: string) => ({ key, value, public: true, masked: false });

/** As a shell has them in the end: later ones count. */
function inForce(variables: readonly unknown[]): Record<string, string> {
  return Object.fromEntries(
    (variables as ReturnType<typeof plain>[]).map(({ key, value }) => [key, value] as const),
  );
}

describe("the relay is exempt from proxies of the job's own", () => {
  test.each([
    [
      "with an exemption of the job's",
      [plain("http_proxy", "http://p:1"), plain("no_proxy", "localhost,.a")],
    ],
    ["in capitals", [plain("HTTPS_PROXY", "http://p:1"), plain("NO_PROXY", "localhost,.a")]],
    ["an exemption alone", [plain("no_proxy", "localhost,.a")]],
  ])("%s", (_, variables) => {
    expect(inForce(withRelayExempt(variables, "10.0.2.100:80"))).toMatchObject({
      no_proxy: "localhost,.a,10.0.2.100",
      NO_PROXY: "localhost,.a,10.0.2.100",
    });
  });

  test("each spelling keeps what the job says in it", () => {
    const variables = [plain("no_proxy", "a"), plain("NO_PROXY", "b"), plain("no_proxy", "c")];

    expect(inForce(withRelayExempt(variables, "10.0.2.100"))).toMatchObject({
      no_proxy: "c,10.0.2.100",
      NO_PROXY: "b,10.0.2.100",
    });
  });

  test("where the job exempts nothing", () => {
    expect(inForce(withRelayExempt([plain("all_proxy", "socks5://p:1")], "10.0.2.100"))).toMatchObject({
      no_proxy: "10.0.2.100",
      NO_PROXY: "10.0.2.100",
    });
  });

  test("a masked value stays masked, as it was and as it is now", () => {
    const secret = { ...plain("NO_PROXY", "inner.example"), masked: true, raw: true };

    const variables = withRelayExempt([secret], "10.0.2.100");

    expect(variables[0]).toBe(secret);
    expect(variables.slice(1)).toEqual([
      { ...secret, key: "no_proxy", value: "inner.example,10.0.2.100" },
      { ...secret, value: "inner.example,10.0.2.100" },
    ]);
  });

  test("and so are the job's services, whoever has named the proxy", () => {
    const services = [
      { name: "docker:27-dind", alias: "docker other, third" },
      { name: "r.example.com:5000/team/db@sha256:00", alias: null },
      { name: "$IMAGE", alias: "a,b c=d" },
      ...[null, "odd", { name: 7 }],
    ];
    const names = ["docker", "other", "third", "r.example.com__team__db", "r.example.com-team-db", "a", "b"];

    expect(serviceNames(services)).toEqual(names);
    const exempt = `10.0.2.100,localhost,127.0.0.1,host.docker.internal,${names.join(",")}`;
    expect(inForce(withRelayExempt([], "10.0.2.100:80", names))).toEqual({
      no_proxy: exempt,
      NO_PROXY: exempt,
    });
    expect(inForce(withRelayExempt([plain("NO_PROXY", ".a")], "10.0.2.100", ["db"]))).toMatchObject({
      no_proxy: ".a,10.0.2.100,localhost,127.0.0.1,host.docker.internal,db",
    });
  });

  test("nothing is added to a job without proxies, or to one with a file of such a name", () => {
    const variables = [plain("PROXY", "x"), { ...plain("http_proxy", "x"), file: true }, null, "odd"];

    expect(withRelayExempt(variables, "10.0.2.100")).toBe(variables);
  });
});

test("proxies that a machine cannot reach are named without what is in their address", () => {
  const variables = [
    plain("http_proxy", "http://user:secret@proxy.corp.example:3128/"),
    plain("HTTPS_PROXY", "proxy:3128"),
    plain("ftp_proxy", "http://["),
    plain("all_proxy", ""),
    plain("https_proxy", "http://10.0.2.100:80"),
    plain("HTTP_PROXY", "http://localhost:8080"),
  ];

  expect(foreignProxies(variables, "10.0.2.100")).toEqual([
    "http_proxy (proxy.corp.example:3128)",
    "HTTPS_PROXY (proxy:3128)",
    "ftp_proxy",
  ]);
});

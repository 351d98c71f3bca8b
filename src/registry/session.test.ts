import { expect, test } from "vitest";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { startCompanyProxy } from "../../test/servers/company-proxy.ts";
import { answer, startHttpServer } from "../../test/servers/http-server.ts";
import { Secret } from "../base/secret.ts";
import { registryErrorFrom } from "./errors.ts";
import { createTransport } from "./session.ts";

test("a registry behind a company's proxy is reached through it, and what fails there is told as the proxy's", async () => {
  await using authority = await makeCertificateAuthority();
  await using server = await startHttpServer(
    (_request, response) => answer(response, 200, {}),
    await authority.issue("registry.company.test"),
  );
  const registry = `registry.company.test:${server.port}`;
  await using proxy = await startCompanyProxy({
    user: "me",
    password: "right",
    routes: { [registry]: server.port },
  });
  const ask = async (password: string) => {
    const named = {
      origin: proxy.url,
      namedBy: "HTTPS_PROXY",
      username: "me",
      password: new Secret(password),
    };
    // The authority is that of a proxy which looks into TLS.
    const proxies = { http: named, https: named, except: [], ca: authority.ca };
    const transport = createTransport({ registry, proxies });
    try {
      const { statusCode, body } = await transport.request({
        origin: transport.origin,
        method: "GET",
        path: "/v2/",
      });
      await body.dump();
      return statusCode;
    } finally {
      await transport.close();
    }
  };

  expect(await ask("right")).toBe(200);
  expect(proxy.asked).toEqual([`CONNECT ${registry}`]);
  const error = await ask("wrong").catch((reason: unknown) => reason);
  expect(registryErrorFrom(error, "https://registry", "asking")).toMatchObject({
    code: "proxy_authentication",
    hint: "correct HTTPS_PROXY",
  });
});

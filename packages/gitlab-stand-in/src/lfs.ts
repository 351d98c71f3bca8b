import { Readable } from "node:stream";
import { MIB_BYTES } from "../../../src/base/units.ts";
import { type Exchange, json, type Reply, readBody, refuse } from "./exchange.ts";
import type { Project } from "./model.ts";

const MAX_BATCH_BYTES = MIB_BYTES;
const MEDIA_TYPE = "application/vnd.git-lfs+json";

interface Wanted {
  readonly oid: string;
  readonly size: number;
}

/** Downloads of Git LFS for a caller that may read the project: the list of where each file is, and the files. */
export async function serveLfs(project: Project, exchange: Exchange): Promise<Reply> {
  const oid = /\/gitlab-lfs\/objects\/([0-9a-f]{64})$/.exec(exchange.url.pathname)?.[1];
  if (oid === undefined) return await batch(project, exchange);
  const body = project.largeFiles.get(oid);
  if (body === undefined || exchange.request.method !== "GET") return refuse(404, "404 Not Found");
  return {
    status: 200,
    headers: { "Content-Type": "application/octet-stream" },
    body: Readable.from([body]),
  };
}

/** As GitLab: addresses at its own name, and the caller's own credentials to be sent there. */
async function batch({ largeFiles }: Project, { request, url }: Exchange): Promise<Reply> {
  const asked = JSON.parse((await readBody(request, MAX_BATCH_BYTES)).toString("utf8"));
  if (asked.operation !== "download") return refuse(403, "This project does not take large files here");
  const at = url.href.replace(/info\/lfs\/objects\/batch$/, "gitlab-lfs/objects/");
  const header = { Authorization: request.headers.authorization ?? "" };
  const objects = (asked.objects as Wanted[]).map(({ oid, size }) =>
    largeFiles.has(oid)
      ? { oid, size, authenticated: true, actions: { download: { href: `${at}${oid}`, header } } }
      : { oid, size, error: { code: 404, message: "Object does not exist on the server" } },
  );
  return json(200, { objects }, { "Content-Type": MEDIA_TYPE });
}

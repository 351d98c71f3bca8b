/** Reads what REST requests ask: parameters of path, query and body, and which page of a list. */
import { MIB_BYTES } from "../../../../src/base/units.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, readBody, refuse } from "../exchange.ts";

const MAX_BODY_BYTES = MIB_BYTES;

/** Parameters by name, each read in the form that the route declares. A name that is not there is undefined. */
export interface Input {
  has(name: string): boolean;
  text(name: string): string | undefined;
  integer(name: string): number | undefined;
  boolean(name: string): boolean | undefined;
  /** `a,b`, `["a","b"]` or `name[]=a&name[]=b`. */
  list(name: string): string[] | undefined;
  oneOf<T extends string>(name: string, values: readonly T[]): T | undefined;
  requiredText(name: string): string;
}

export async function readInput({ request, url }: Exchange): Promise<Input> {
  const values = new Map<string, unknown>();
  addForm(values, url.searchParams);
  if (request.method !== "GET") {
    const text = (await readBody(request, MAX_BODY_BYTES)).toString("utf8");
    if (text !== "") addBody(values, text, request.headers["content-type"] ?? "");
  }
  return createInput(values);
}

function addForm(values: Map<string, unknown>, form: URLSearchParams): void {
  for (const name of new Set(form.keys())) {
    if (name.endsWith("[]")) values.set(name.slice(0, -2), form.getAll(name));
    else values.set(name, form.get(name));
  }
}

function addBody(values: Map<string, unknown>, text: string, type: string): void {
  if (type.startsWith("application/json")) addJson(values, text);
  else if (type.startsWith("application/x-www-form-urlencoded")) addForm(values, new URLSearchParams(text));
  else throw new Refused(refuse(415, "The provided content-type is not supported."), true);
}

function addJson(values: Map<string, unknown>, text: string): void {
  for (const [name, value] of Object.entries(parseJson(text))) if (value !== null) values.set(name, value);
}

function parseJson(text: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Answered below.
  }
  throw invalidParameter("message body does not match declared format");
}

function createInput(values: ReadonlyMap<string, unknown>): Input {
  function text(name: string): string | undefined {
    const value = values.get(name);
    if (value === undefined) return undefined;
    if (typeof value === "object") throw invalidParameter(`${name} is invalid`);
    return String(value);
  }

  function oneOf<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const value = text(name);
    const found = allowed.find((each) => each === value);
    if (value !== undefined && found === undefined)
      throw invalidParameter(`${name} does not have a valid value`);
    return found;
  }

  return {
    has: (name) => values.has(name),
    text,
    oneOf,
    integer(name) {
      const value = text(name);
      if (value === undefined) return undefined;
      if (!/^-?\d+$/.test(value)) throw invalidParameter(`${name} is invalid`);
      return Number(value);
    },
    boolean(name) {
      const value = text(name);
      if (value === undefined) return undefined;
      if (!["true", "false", "1", "0"].includes(value)) throw invalidParameter(`${name} is invalid`);
      return value === "true" || value === "1";
    },
    list(name) {
      const value = values.get(name);
      if (Array.isArray(value)) return value.map(String);
      return text(name)
        ?.split(",")
        .map((each) => each.trim())
        .filter((each) => each !== "");
    },
    requiredText(name) {
      const value = text(name);
      if (value === undefined) throw invalidParameter(`${name} is missing`);
      return value;
    },
  };
}

/** What a handler throws to answer with a refusal. A mistake is one that a well-made client does not make. */
export class Refused extends Error {
  readonly reply: Reply;
  readonly isMistake: boolean;

  constructor(reply: Reply, isMistake = false) {
    super(`refused with ${reply.status}`);
    this.reply = reply;
    this.isMistake = isMistake;
  }
}

/** 404 in GitLab's words: `404 Project Not Found`, or `404 Not found` for what it does not name. */
export function notFound(what?: string): Refused {
  return new Refused(refuse(404, what === undefined ? "404 Not found" : `404 ${what} Not Found`));
}

export function forbidden(reason?: string): Refused {
  return new Refused(refuse(403, reason === undefined ? "403 Forbidden" : `403 Forbidden - ${reason}`));
}

/** 400 of a check behind the parameters. */
export function badRequest(reason: string, isMistake = true): Refused {
  return new Refused(refuse(400, `400 Bad request - ${reason}`), isMistake);
}

/** 400 of a parameter that is missing or has a wrong form: `error` names it. */
export function invalidParameter(error: string): Refused {
  return new Refused(json(400, { error }), true);
}

const DEFAULT_PER_PAGE = 20;
const MAX_PER_PAGE = 100;

interface Paged {
  readonly core: Core;
  readonly exchange: Exchange;
  readonly input: Input;
}

interface PageOptions {
  /** Lists that GitLab also gives by cursor, newest id first. */
  readonly keyset?: boolean;
  /** GitLab counts the whole list, except where that costs too much. */
  readonly counted?: boolean;
}

interface Item {
  readonly id: number;
}

/** One page of `items`, in the order they are given; each item as `entity` words it. */
export function page<T extends Item>(
  call: Paged,
  items: readonly T[],
  entity: (item: T) => unknown,
  { keyset = false, counted = true }: PageOptions = {},
): Reply {
  const asked = call.input.integer("per_page") ?? DEFAULT_PER_PAGE;
  if (asked < 1) throw invalidParameter("per_page does not have a valid value");
  const perPage = Math.min(asked, MAX_PER_PAGE);
  const byCursor = call.input.text("pagination") === "keyset";
  if (!byCursor) return pageByNumber(call, items, entity, perPage, counted);
  if (!keyset || call.input.text("order_by") === undefined || call.input.text("sort") === "asc")
    throw new Refused(
      json(405, { error: "Keyset pagination is not yet available for this type of request" }),
      true,
    );
  return pageByCursor(call, items, entity, perPage);
}

function pageByCursor<T extends Item>(
  call: Paged,
  items: readonly T[],
  entity: (item: T) => unknown,
  perPage: number,
): Reply {
  const cursor = call.input.text("cursor");
  const before = cursor === undefined ? Number.POSITIVE_INFINITY : readCursor(cursor);
  const rest = items.filter((item) => item.id < before).toSorted((a, b) => b.id - a.id);
  const shown = rest.slice(0, perPage);
  const last = shown.at(-1);
  const more = rest.length > perPage || call.core.behaviour.endlessPages;
  if (!last || !more) return json(200, shown.map(entity));
  // A list that never ends starts again with its first page.
  const next = rest.length > perPage ? last.id : Number.MAX_SAFE_INTEGER;
  const link = `<${pageUrl(call, { cursor: writeCursor(next) })}>; rel="next"`;
  return json(200, shown.map(entity), { Link: link });
}

function writeCursor(id: number): string {
  return Buffer.from(JSON.stringify({ id: String(id), _kd: "n" })).toString("base64url");
}

function readCursor(cursor: string): number {
  const id = /^\{"id":"(\d+)","_kd":"n"\}$/.exec(Buffer.from(cursor, "base64url").toString())?.[1];
  if (id === undefined) throw invalidParameter("cursor is invalid");
  return Number(id);
}

function pageByNumber<T>(
  call: Paged,
  items: readonly T[],
  entity: (item: T) => unknown,
  perPage: number,
  counted: boolean,
): Reply {
  const current = call.input.integer("page") ?? 1;
  if (current < 1) throw invalidParameter("page does not have a valid value");
  const pages = Math.max(1, Math.ceil(items.length / perPage));
  const { endlessPages } = call.core.behaviour;
  const start = endlessPages ? ((current - 1) % pages) * perPage : (current - 1) * perPage;
  const next = current < pages || endlessPages ? current + 1 : undefined;
  const links = [
    ...(current > 1 ? [["prev", current - 1] as const] : []),
    ...(next === undefined ? [] : [["next", next] as const]),
    ["first", 1] as const,
    ...(counted ? [["last", pages] as const] : []),
  ];
  const headers = {
    "X-Page": String(current),
    "X-Per-Page": String(perPage),
    "X-Next-Page": String(next ?? ""),
    "X-Prev-Page": current > 1 ? String(current - 1) : "",
    ...(counted ? { "X-Total": String(items.length), "X-Total-Pages": String(pages) } : {}),
    Link: links.map(([rel, to]) => `<${pageUrl(call, { page: String(to) })}>; rel="${rel}"`).join(", "),
  };
  return json(200, items.slice(start, start + perPage).map(entity), headers);
}

function pageUrl({ core, exchange }: Paged, changes: Readonly<Record<string, string>>): string {
  const url = new URL(exchange.url.pathname + exchange.url.search, core.behaviour.linkOrigin ?? core.url());
  for (const [name, value] of Object.entries(changes)) url.searchParams.set(name, value);
  return url.href;
}

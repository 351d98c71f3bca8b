import type { Core } from "../core.ts";
import { type Exchange, json, type Reply } from "../exchange.ts";
import type { Input } from "./input.ts";
import { invalidParameter, Refused } from "./input.ts";

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

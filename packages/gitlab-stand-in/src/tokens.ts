import { randomBytes } from "node:crypto";
import type { Clock } from "../../../src/base/clock.ts";
import { isWithin } from "./projects.ts";

/** What an access token may be allowed, as far as it matters here. */
export type TokenScope = "api" | "read_api" | "read_user" | "create_runner" | "manage_runner";

const levels = { guest: 10, reporter: 20, developer: 30, maintainer: 40, owner: 50 } as const;

export type Role = keyof typeof levels;

interface Membership {
  /** A group or project; what lies below inherits. Undefined: everything. */
  readonly path: string | undefined;
  readonly level: number;
}

export interface User {
  readonly id: number;
  readonly username: string;
  admin: boolean;
  memberships: readonly Membership[];
}

export interface AccessToken {
  readonly id: number;
  readonly token: string;
  readonly name: string;
  readonly scopes: readonly TokenScope[];
  readonly user: User;
  readonly createdAt: number;
  /** `2026-12-31`: it stops working when that day begins (UTC). */
  expiresAt: string | undefined;
  revoked: boolean;
}

interface NewAccessToken {
  readonly scopes: readonly TokenScope[];
  /** User name. A name that is known adds a token to that user, who keeps the roles given before. */
  readonly user?: string;
  readonly name?: string;
  /** `2026-12-31`. */
  readonly expiresAt?: string;
  /** `owner` unless told. */
  readonly role?: Role | "admin";
  /** The group or project where the role holds; everywhere unless told. */
  readonly memberOf?: string;
}

export interface AccessTokens {
  add(options: NewAccessToken): AccessToken;
  byValue(token: string): AccessToken | undefined;
  user(id: number): User | undefined;
}

export function createAccessTokens(clock: Clock): AccessTokens {
  const all: AccessToken[] = [];
  // Number 1 is who starts the pipelines.
  const users: User[] = [{ id: 1, username: "demo", admin: false, memberships: [] }];

  function userNamed(username: string): User {
    const known = users.find((user) => user.username === username);
    if (known) return known;
    const user = { id: users.length + 1, username, admin: false, memberships: [] };
    users.push(user);
    return user;
  }

  function add(options: NewAccessToken): AccessToken {
    const id = all.length + 1;
    const user = userNamed(options.user ?? `bot-${id}`);
    const { role = "owner", memberOf } = options;
    if (role === "admin") user.admin = true;
    else user.memberships = [...user.memberships, { path: memberOf, level: levels[role] }];
    const token = {
      id,
      token: `glpat-${randomBytes(15).toString("base64url")}`,
      name: options.name ?? "firerunner",
      scopes: options.scopes,
      user,
      createdAt: clock.now(),
      expiresAt: options.expiresAt,
      revoked: false,
    };
    all.push(token);
    return token;
  }

  return {
    add,
    byValue: (value) => all.find((each) => each.token === value),
    user: (id) => users.find((user) => user.id === id),
  };
}

/** 10 guest … 50 owner; undefined: no member. An administrator who is no member has no level, but may everything. */
export function levelAt(user: User, path: string): number | undefined {
  const held = user.memberships.filter((each) => each.path === undefined || isWithin(path, each.path));
  return held.length === 0 ? undefined : Math.max(...held.map((each) => each.level));
}

export function hasLevel(user: User, path: string, role: Role): boolean {
  return user.admin || (levelAt(user, path) ?? 0) >= levels[role];
}

export function isExpired(token: AccessToken, now: number): boolean {
  return token.expiresAt !== undefined && Date.parse(token.expiresAt) <= now;
}

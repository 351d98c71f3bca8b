/**
 * The description of the API in the form of OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), made of the list of routes and of the schemas
 * that the answers are made by. docs/openapi.json is it, written by scripts/docs-api.ts.
 */
import { z } from "zod";
import * as api from "../../views/api.ts";
import * as webhook from "../../views/webhook-api.ts";
import type { Route } from "../routes/route.ts";
import { allRoutes } from "../routes/routes.ts";

/** Before every path; the number changes when something that was promised is taken away. */
export const API_PREFIX = "/api/v1";

/** What may be asked over the network. */
export const apiRoutes: readonly Route[] = allRoutes.filter(({ isLocal }) => !isLocal);

type Json = { readonly [key: string]: unknown };
type Schema = z.ZodType;

/** Each schema of an answer under its own name. */
const named = new Map<Schema, string>(
  Object.entries<unknown>({ ...api, ...webhook })
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, value]) =>
      value instanceof z.ZodType && !name.endsWith("Request") ? [[value, name.replace(/View$/, "")]] : [],
    ),
);

export function openApiDocument(version: string): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of apiRoutes) {
    const path = `${API_PREFIX}${route.path.replaceAll(/:(\w+)/g, "{$1}")}`;
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "FireRunner",
      version,
      description:
        "What the command line shows and does, over the network. Times are milliseconds since 1970. Answers may have more fields in later releases; none is taken away within a version of the path.",
    },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: {
        token: { type: "http", scheme: "bearer", description: "A token of api.tokens in the configuration." },
      },
      responses: responses(),
      schemas: schemas(),
    },
  };
}

function operationOf(route: Route): Json {
  const { method, path, summary, role, body } = route;
  return {
    operationId: `${method.toLowerCase()}${path.replaceAll(/[/:-]+(\w)/g, (_all, letter: string) => letter.toUpperCase())}`,
    summary,
    description: `For tokens of the role ${role}${role === "admin" ? "" : " or above"}.`,
    parameters: [
      ...parametersOf(route.params, "path"),
      ...parametersOf(route.query, "query"),
      ...headersOf(route),
    ],
    ...(body ? { requestBody: { required: true, content: jsonOf(inputOf(body)) } } : {}),
    responses: { "200": answerOf(route), ...refusalsOf(route) },
  };
}

function parametersOf(schema: Schema | undefined, place: "path" | "query"): Json[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = inputOf(schema) as {
    readonly properties?: Readonly<Record<string, { readonly description?: string }>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...of }]) => ({
    name,
    in: place,
    required: place === "path" || required.includes(name),
    ...(description === undefined ? {} : { description }),
    schema: of,
  }));
}

function headersOf({ answers }: Route): Json[] {
  if (answers !== "text/event-stream") return [];
  const description = "The number of the last event that was seen.";
  return [{ name: "Last-Event-ID", in: "header", required: false, description, schema: { type: "integer" } }];
}

function answerOf({ answers }: Route): Json {
  if (typeof answers === "string")
    return {
      description: "As it is, or as it comes.",
      content: { [answers]: { schema: { type: "string" } } },
    };
  return { description: "Done.", content: jsonOf(referenceTo(answers)) };
}

/** What a refusal means, all in the same form. */
const refusals: Readonly<Record<number, string>> = {
  400: "The request is not one that can be understood.",
  401: "There is no token, or one that is not known.",
  403: "The token's role, or the client's address, does not allow it.",
  404: "What the path names is not known here, or what it is about is not configured.",
  405: "The path is asked with another method.",
  409: "It does not go with how things are.",
  413: "The request is too long.",
  415: "The body is no JSON.",
  431: "The headers are too long.",
  429: "Too many requests, or too many readers.",
  500: "It failed here; the log says why.",
  502: "GitLab, or a host, did not do what it was asked for.",
};

function refusalsOf({ method, body }: Route): Record<string, Json> {
  const statuses = [
    ...[400, 401, 403, 404, 405, 429, 431, 500],
    ...(method === "GET" ? [] : [409, 502]),
    ...(body ? [413, 415] : []),
  ];
  return Object.fromEntries(statuses.map((status) => [String(status), { $ref: responseAt(status) }]));
}

function responseAt(status: number | string): string {
  return `#/components/responses/refusal-${status}`;
}

function responses(): Record<string, Json> {
  const content = jsonOf(referenceTo(api.Problem));
  return Object.fromEntries(
    Object.entries(refusals).map(([status, description]) => [
      `refusal-${status}`,
      // Headers that are too long are not read, and answered before anything of ours sees them.
      status === "431" ? { description } : { description, content },
    ]),
  );
}

function jsonOf(schema: Json): Json {
  return { "application/json": { schema } };
}

function referenceTo(schema: Schema): Json {
  const name = named.get(schema);
  return name === undefined ? plain(z.toJSONSchema(schema)) : { $ref: reference(name) };
}

function reference(name: string): string {
  return `#/components/schemas/${name}`;
}

/** As whoever asks writes it: what is not known is refused. */
function inputOf(schema: Schema): Json {
  return bare(z.toJSONSchema(schema, { io: "input" }));
}

function schemas(): Record<string, Json> {
  const registry = z.registry<{ id: string }>();
  for (const [schema, id] of named) registry.add(schema, { id });
  const made = z.toJSONSchema(registry, { uri: reference }).schemas;
  return Object.fromEntries(Object.entries(made).map(([name, schema]) => [name, plain(schema)]));
}

/** Of an answer, in which other fields may come. */
function plain(schema: object): Json {
  return bare(schema, (key, value) => key === "additionalProperties" && value === false);
}

/** Without what a part of a document does not say of itself, and without what else is to go. */
function bare(schema: object, isToGo: (key: string, value: unknown) => boolean = () => false): Json {
  return JSON.parse(
    JSON.stringify(schema, (key, value: unknown) =>
      key === "$schema" || key === "$id" || isToGo(key, value) ? undefined : value,
    ),
  ) as Json;
}

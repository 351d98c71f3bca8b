/**
 * Queries that are built and compiled once and then run with other values. To build, rename and compile a short query takes several times
 * as long as to run it; what is asked many times for each job goes through here.
 */
import type { Compilable, CompiledQuery, Kysely, QueryResult } from "kysely";
import type { Tables } from "./tables.ts";

/** Stands in a query for a value that is given when it runs. */
class Placeholder {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** Runs the query with these values, in a transaction where `db` is one. */
type Prepared<Values, Row> = (db: Kysely<Tables>, values: Values) => Promise<QueryResult<Row>>;

/**
 * `build` is called once for each database and each set of names by which values are given, with stand-ins for the values. So it may put
 * a value wherever one parameter can be (not a list), may spread those it does not name, and must not look at any.
 */
export function prepared<Values extends object, Row>(
  build: (db: Kysely<Tables>, values: Values) => Compilable<Row>,
): Prepared<Values, Row> {
  const known = new WeakMap<object, Map<string, CompiledQuery<Row>>>();

  function compiledFor(db: Kysely<Tables>, names: readonly string[]): CompiledQuery<Row> {
    // Of a database and of its transactions it is the same one.
    const { adapter } = db.getExecutor();
    const ofDatabase = known.get(adapter) ?? new Map<string, CompiledQuery<Row>>();
    known.set(adapter, ofDatabase);
    const key = names.join();
    const query = ofDatabase.get(key) ?? build(db, standIns(names) as Values).compile();
    ofDatabase.set(key, query);
    return query;
  }

  return async (db, values) => {
    const query = compiledFor(db, Object.keys(values));
    const given = (parameter: unknown) =>
      parameter instanceof Placeholder ? values[parameter.name as keyof Values] : parameter;
    return await db.executeQuery({ ...query, parameters: query.parameters.map(given) });
  };
}

function standIns(names: readonly string[]): Record<string, Placeholder> {
  return Object.fromEntries(names.map((name) => [name, new Placeholder(name)]));
}

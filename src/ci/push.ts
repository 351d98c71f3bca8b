/**
 * What a pipeline is made for: the push of one commit to a branch. `rules`, `only`, `workflow` and `include` are judged by it.
 */
export interface Push {
  readonly branch: string;
  readonly projectPath: string;
  /** Variables that GitLab sets for every pipeline, and the project's own. */
  readonly variables: Variables;
  /** Paths of all files of the commit. */
  readonly files: readonly string[];
  /** Paths of what it changes; undefined when that is not known, which GitLab takes for “everything”. */
  readonly changes: readonly string[] | undefined;
}

export type Variables = Readonly<Record<string, string>>;

/** A push of nothing in particular to `main`. */
export const plainPush: Push = {
  branch: "main",
  projectPath: "group/project",
  variables: {
    CI: "true",
    GITLAB_CI: "true",
    CI_PIPELINE_SOURCE: "push",
    CI_COMMIT_BRANCH: "main",
    CI_COMMIT_REF_NAME: "main",
    CI_DEFAULT_BRANCH: "main",
  },
  files: [],
  changes: undefined,
};

const MOST_STEPS = 20;

/** `$NAME`, `${NAME}` and what their values name in turn; `$$` is a dollar sign, and what is not set is empty. */
export function expand(text: string, variables: Variables, steps = MOST_STEPS): string {
  return text.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => {
    if (whole === "$$") return "$";
    const value = setValue(variables, braced ?? bare ?? "") ?? "";
    return steps > 0 && value.includes("$") ? expand(value, variables, steps - 1) : value;
  });
}

/** A variable's value, expanded; undefined when it is not set. */
export function expandedValue(variables: Variables, name: string): string | undefined {
  const value = setValue(variables, name);
  return value === undefined ? undefined : expand(value, variables);
}

function setValue(variables: Variables, name: string): string | undefined {
  return Object.hasOwn(variables, name) ? variables[name] : undefined;
}

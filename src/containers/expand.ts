/** Variables in the names of images, filled in as the official runner does. */
import { ContainerError } from "./errors.ts";

export interface NamedVariable {
  readonly key: string;
  readonly value: string;
  /** Its value is a file's content; scripts see the file's path. */
  readonly file?: boolean | undefined;
  /** What looks like a variable in its value is none. */
  readonly raw?: boolean | undefined;
}

/** `$NAME`, `${NAME}`, and the shell's own (`$1`, `$$`), which have no value here but for `$$`. */
const REFERENCE = /\$(?:\{([^}]*)\}|(\{)|([*#$@!?\-0-9])|(\w+))/g;
const NO_NAME = /^[*#@!?0-9]$/;

export interface Expansion {
  /** Filled in twice, as by the runner: the variables that `text` names, and those that their values name. Throws `container_bad_name`. */
  expand(text: string): string;
  /** The value of one variable, be it a file or not; undefined when there is none. */
  valueOf(key: string): string | undefined;
}

/** Of several variables of one name the last counts. `mostCharacters` bounds what a few variables that name each other can become. */
export function expansionWith(variables: readonly NamedVariable[], mostCharacters: number): Expansion {
  const byKey = new Map(variables.map((each) => [each.key, each]));

  function replace(text: string, get: (key: string) => string): string {
    let length = 0;
    return text.replaceAll(
      REFERENCE,
      (_, braced?: string, open?: string, special?: string, plain?: string) => {
        const value = open === undefined ? get(braced ?? special ?? plain ?? "") : "";
        length += value.length;
        if (length > mostCharacters) throw tooLong(text);
        return value;
      },
    );
  }

  function plainValue(key: string): string {
    if (key === "$") return key;
    const variable = NO_NAME.test(key) ? undefined : byKey.get(key);
    if (variable === undefined) return "";
    // The runner has a path here, which is no image; and what is in the file must not become part of a request.
    if (variable.file) throw ofFile(key);
    return variable.value;
  }

  function expandedValue(key: string): string {
    const value = plainValue(key);
    return key === "$" || byKey.get(key)?.raw ? value : replace(value, plainValue);
  }

  return {
    expand: (text) => replace(text, expandedValue),
    valueOf(key) {
      const variable = byKey.get(key);
      if (variable === undefined || variable.raw || variable.value.length > mostCharacters)
        return variable?.value;
      return replace(variable.value, (name) => byKey.get(name)?.value ?? "");
    },
  };
}

function tooLong(text: string): ContainerError {
  const shown = text.slice(0, 80);
  return new ContainerError("container_bad_name", `“${shown}” becomes too long with the job's variables`, {
    hint: "name the image, or use variables that hold no more than a part of its name",
  });
}

function ofFile(key: string): ContainerError {
  return new ContainerError(
    "container_bad_name",
    `$${key} is a file, and cannot be part of an image's name`,
    {
      hint: `make ${key} a variable of the kind “variable” in GitLab`,
    },
  );
}

import { describe, expect, test } from "vitest";
import { createListeners } from "./listeners.ts";

describe("listeners", () => {
  test("all hear each value, in the order they came", () => {
    const listeners = createListeners<number>();
    const heard: string[] = [];
    listeners.add((value) => heard.push(`first ${value}`));
    listeners.add((value) => heard.push(`second ${value}`));

    listeners.emit(1);
    listeners.emit(2);

    expect(heard).toEqual(["first 1", "second 1", "first 2", "second 2"]);
  });

  test("one that stopped hears no more, and may stop twice", () => {
    const listeners = createListeners<number>();
    const heard: number[] = [];
    const stop = listeners.add((value) => heard.push(value));
    listeners.emit(1);
    stop();
    stop();

    listeners.emit(2);

    expect(heard).toEqual([1]);
  });

  test("one may stop while it listens", () => {
    const listeners = createListeners<number>();
    const heard: string[] = [];
    const stop = listeners.add(() => {
      heard.push("once");
      stop();
    });
    listeners.add(() => heard.push("always"));

    listeners.emit(1);
    listeners.emit(2);

    expect(heard).toEqual(["once", "always", "always"]);
  });

  test("one that throws is reported and the others still hear", () => {
    const errors: unknown[] = [];
    const listeners = createListeners<number>((error) => errors.push(error));
    const heard: number[] = [];
    const bug = new Error("bug");
    listeners.add(() => {
      throw bug;
    });
    listeners.add((value) => heard.push(value));

    listeners.emit(7);

    expect(errors).toEqual([bug]);
    expect(heard).toEqual([7]);
  });
});

// Names that users have chosen: of people, and of tasks. Marks those that look like others.
import { h, live, name } from "./dom.js";

const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\u2800]+/gu;
// Each begins with a Latin letter, and goes on with others that look like it (UTS 39)
const LOOK_ALIKES =
  "aаα bЬ cс dԁ eе hһ lіιӏ|1i jј oоοσ0 pрρ qԛ sѕ uυ vνѵ wԝ xх yуγ" +
  " AАΑ BВΒ CС EЕΕ HНΗ LІΙӀ JЈ KКΚ MМΜ NΝ OОΟ PРΡ SЅ TТΤ XХΧ YУΥ ZΖ";
const LOOKS = new Map(
  LOOK_ALIKES.split(" ").flatMap(([latin, ...others]) =>
    others.map((other) => [other, latin.toLowerCase()]),
  ),
);

/** What a name looks like: the same for two that are hard to tell apart. */
function looks(text) {
  const visible = text.normalize("NFKC").replace(INVISIBLE, "");
  const alike = (letter) => LOOKS.get(letter) ?? letter.toLowerCase();
  return [...visible].map((letter) => alike(alike(letter))).join("");
}

const isASCII = (text) => /^[\x20-\x7e]*$/.test(text);
/** Whether a name looks Latin, but is not: all of its letters that are not look as if they were. */
const isFake = (text) => !isASCII(text) && isASCII(looks(text));

const names = new Map(); // of people, by their subjects

/** What to call somebody; with their subject if another one has this name, or is in it. */
export function nameOf(identity, otherwise = "nobody") {
  const { subject, name: given } = identity ?? {};
  const seen = given?.replace(/[\p{Cc}\p{Bidi_Control}\p{Z}]+/gu, " ").replace(INVISIBLE, "");
  const own = seen?.replace(/\p{C}/gu, "").trim().slice(0, 100);
  if (subject && own) names.set(subject, own);
  const called = own || names.get(subject);
  if (!called) return subject || otherwise;
  const taken = ([other, its]) =>
    other !== subject && (looks(its) === looks(called) || looks(called).includes(looks(other)));
  const isUnclear = isFake(called) || [...names].some(taken);
  return isUnclear ? `${called} (${subject || "no subject"})` : called;
}

/** Somebody's name, kept up to date, with the subject, which nobody chooses, as its title. */
export const person = (identity, otherwise) =>
  live(h("bdi", { title: identity?.subject }), () => nameOf(identity, otherwise));

/** Somebody's name and, small, their subject: names can look alike. */
export function personAndSubject(identity) {
  const { subject, name: called } = identity ?? {};
  const small = called && subject && [" ", h("code.small.faint", name(subject))];
  return h("span", name(called || subject || "Somebody"), small);
}

const code = (letter) => `U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A task's name, with its prefix in small print, and the code points that pretend to be others. */
export function taskName(full) {
  const dot = full.lastIndexOf(".");
  const own = dot < 1 ? full : full.slice(dot + 1);
  const prefix = dot < 1 ? [] : [name(full.slice(0, dot + 1), { class: "prefix" }), h("wbr")];
  const fakes = full.split(/[._\s]/).filter(isFake);
  const letters = [...new Set(fakes.join(""))].filter((letter) => !isASCII(letter));
  const warning = letters.length && h("span.warning", ` contains ${letters.map(code).join(", ")}`);
  return [...prefix, name(own), warning || ""];
}

// Buttons take no click until they have stood still: they move when others change, and a click may
// be meant for what stood there before.

const STILL = 1000; // milliseconds
const OFTEN = 100; // between looks, while there are such buttons

/** Return a function that adds buttons to be watched. Keys work at once: they have a target. */
export function stillness() {
  const places = new Map(); // of buttons: where they stand, and since when
  let timer;

  function look() {
    for (const [buttons, { place, since }] of places) {
      const { left, top } = buttons.getBoundingClientRect();
      const now = `${Math.round(left + scrollX)} ${Math.round(top + scrollY)}`;
      const stood = now === place ? since : Date.now();
      if (buttons.isConnected) places.set(buttons, { place: now, since: stood });
      else places.delete(buttons);
      buttons.classList.toggle("moving", Date.now() - stood < STILL);
    }
    if (!places.size) timer = clearInterval(timer);
  }

  return (buttons) => {
    buttons.classList.add("moving");
    places.set(buttons, {});
    timer ??= setInterval(look, OFTEN);
    function guard(event) {
      look();
      if (!event.detail || !buttons.classList.contains("moving")) return;
      event.preventDefault();
      event.stopPropagation();
    }
    buttons.addEventListener("click", guard, { capture: true });
    return buttons;
  };
}

// Browsers hold a limited number of players: few are made ready, and one is heard at a time.
const MOST = 40;
const players = () => [...document.querySelectorAll("audio")];
const ready = () => players().filter((one) => one.preload !== "none").length;

function prepare(card) {
  const own = [...card.querySelectorAll("audio")];
  if (!card.open) own.forEach(release);
  else if (ready() + own.length <= MOST) own.forEach((one) => { one.preload = "metadata"; });
}

function release(player) {
  player.pause();
  player.preload = "none";
  if (player.readyState > 0) player.load();
}

document.querySelectorAll(".example[open]").forEach(prepare);
document.addEventListener("toggle", (event) => {
  if (event.target.matches(".example")) prepare(event.target);
}, true);
document.addEventListener("play", (event) => {
  const card = event.target.closest(".example");
  for (const other of players()) {
    if (other === event.target) continue;
    other.pause();
    if (other.readyState > 0 && ready() > MOST && other.closest(".example") !== card) release(other);
  }
  event.target.preload = "metadata";
}, true);

// What a squad does in the walk: a file in the studio, and a version on its way.

/** The parts of the walk that a squad goes. */
export function squads(walk) {
  /** A file in the studio: opened, broken, mended and led by a cohort. */
  async function studio(sam, source) {
    await walk.follow(sam, sam.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Journeys" }), "/console/journeys");
    await walk.follow(sam, sam.getByRole("link", { name: "Studio" }), "/console/studio");
    await sam.getByText("Nothing is checked yet").waitFor();
    await walk.look(sam, "studio-empty");
    await sam.getByLabel("Open a version").selectOption("heart-failure-discharge/2");
    await walk.follow(sam, sam.getByRole("button", { name: "Open", exact: true }), /^\/console\/studio\?open=/);
    await sam.getByText("It is what is live").waitFor();
    await walk.look(sam, "studio");
    const editor = sam.getByLabel("Journey file (YAML)");
    await typing(sam, editor, await editor.inputValue());
    const check = sam.getByRole("button", { name: "Check and draw" });
    // A task that nobody is told is overdue: an error at its step, in the graph and in the list.
    await editor.fill(source.replace("    next: end\n    overdue: {role: coordinator, priority: urgent}", "    next: end"));
    await walk.click(check);
    await sam.locator("#looked").getByRole("link", { name: "J014" }).first().waitFor();
    walk.check((await sam.locator("#looked .graph").textContent()).includes("✕"), "what is wrong is marked in the graph");
    await walk.look(sam, "studio-findings");
    await editor.fill(`${source}  nowhere: {}\n`);
    await walk.click(check);
    await sam.getByText("The graph is drawn as soon as").waitFor();
    await walk.look(sam, "studio-no-graph");
    walk.check((await editor.inputValue()).includes("nowhere: {}"), "what was typed is not lost");
    await walk.follow(sam, sam.locator("#looked").getByRole("link", { name: /^J\d{3}$/ }).first(), /^\/console\/checks\/J\d{3}$/);
    await walk.look(sam, "studio-code");
    await sam.goto("/console/studio?open=heart-failure-discharge%2F1");
    await sam.getByRole("heading", { name: "Against version 2, which is live" }).waitFor();
    await sam.getByRole("spinbutton", { name: "Patients" }).fill("300");
    await sam.getByRole("spinbutton", { name: "Days" }).fill("60");
    await sam.getByLabel(/Lead the same people/).check();
    await walk.click(sam.getByRole("button", { name: "Simulate" }));
    await sam.getByRole("heading", { name: "A simulated cohort" }).waitFor();
    await sam.getByRole("heading", { name: "The same people along version 2" }).waitFor();
    walk.check((await sam.locator("svg.strip path").first().getAttribute("d")).length > 0, "bars are drawn");
    await walk.look(sam, "studio-simulated");
  }

  /** What is typed is checked by itself: a step is misspelt, found, gone to by its finding, and mended. */
  async function typing(sam, editor, source) {
    const at = source.indexOf("next: reached") + "next: rea".length;
    await editor.evaluate((field, at) => { field.focus(); field.setSelectionRange(at, at); }, at);
    const mark = await sam.evaluate(() => { window.cairnWalk = "typing"; return performance.timeOrigin; });
    await walk.press(sam, "Delete");
    const line = source.slice(0, at).split("\n").length;
    const place = sam.locator("#looked").getByRole("link", { name: new RegExp(`^Line ${line}, column`) }).first();
    await place.waitFor();
    walk.check(await editor.evaluate((field, at) => field === document.activeElement && field.selectionStart === at, at), "the caret stays where somebody types");
    await sam.locator("#said").getByText(/^\d+ errors?.*the first in line \d+\.$/).waitFor();
    await walk.look(sam, "studio-typing");
    await walk.click(place);
    walk.check(await editor.evaluate((field, line) => field === document.activeElement && field.value.slice(0, field.selectionStart).split("\n").length === line, line), "a finding leads to its line");
    await editor.evaluate((field, at) => field.setSelectionRange(at, at), at);
    await walk.press(sam, "c");
    await sam.locator("#looked").getByText(/No findings|Only warnings/).waitFor();
    walk.check((await sam.locator("#looked .graph svg").count()) === 1, "the graph is drawn again");
    walk.check(mark === (await sam.evaluate(() => window.cairnWalk === "typing" && performance.timeOrigin)), "nothing was loaded again");
  }

  /** A draft is checked and staged for some of the new patients, and taken back, so that the others go on as before. */
  async function staged(sam, source) {
    await sam.goto("/console/studio");
    await sam.getByLabel("Journey file (YAML)").fill(source.replace("You are home again", "You are back home again"));
    await walk.follow(sam, sam.getByRole("button", { name: "Keep as a draft" }), /\?version=3$/);
    await walk.look(sam, "journey-draft");
    for (const [to, said] of [["checked", "Checked, starts nobody yet"], ["staged", "Staged: 20 % of new patients"], ["checked", "Checked, starts nobody yet"]]) {
      await sam.locator("select[name=to]").selectOption(to);
      if (to === "staged") await sam.locator("input[name=share]").fill("20");
      await sam.locator("input[name=reason]").fill("Tried in a walk");
      await walk.click(sam.getByRole("button", { name: "Move it on" }));
      await sam.locator(".head").getByText(said).waitFor();
      if (to === "staged") await walk.look(sam, "journey-staged");
    }
  }

  return { studio, staged };
}

//! A rung's system stays up for a person to try.

use std::io::{self, IsTerminal};

use app::rung::Stack;
use tenfold_rig::{RoleResult, Story};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Says where the system is and waits for Enter or `q`, or not at all if nobody sits at a terminal.
pub(crate) async fn stay_up(story: &Story, stack: &Stack) -> RoleResult {
    for front in &stack.fronts {
        story.say(&format!("up: curl -i http://{front}/users/123"));
    }
    for node in stack.tiers.all() {
        story.say(&format!("    {:<8} pid {:<7} {}", node.name(), node.pid(), node.addr()));
    }
    for dns in stack.tiers.all().iter().filter_map(|node| node.announced("dns")) {
        story.say(&format!("    dig @{} -p {} {}", dns.ip(), dns.port(), app::dns::NAME));
    }
    for admin in stack.tiers.all().iter().filter_map(|node| node.announced("admin")) {
        story.say(&format!("    curl http://{admin}/backends; curl -X POST 'http://{admin}/backends/drain?addr=ADDR'"));
    }
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    story.say("Enter or q ends it");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if matches!(line.trim(), "" | "q" | "quit") {
            break;
        }
    }
    Ok(())
}

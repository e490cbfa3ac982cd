//! Emergency accesses that wait for their review are counted to a bound, which is five here.
use super::*;

async fn begin(house: &House, from: usize, to: usize) {
    for number in from..to {
        let agent = Agent {
            id: format!("agent-{number}"),
            ..staff(Role::Clinician)
        };
        let identity = house.trust.identity();
        identity
            .break_glass(&agent, "p", "Unconscious, medicines unknown", "r")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn overdue_reviews_are_counted_behind_a_long_queue() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let counted = async || {
        let identity = house.trust.identity();
        let found = identity.emergencies_waiting(TENANT).await.unwrap();
        (found.open, found.more, found.overdue, found.more_overdue)
    };
    assert_eq!(counted().await, (0, false, 0, false));
    begin(&house, 0, 1).await;
    house.wall.advance(EMERGENCY_REVIEW_S * 1000 - 1);
    begin(&house, 1, 5).await;
    assert_eq!(counted().await, (5, false, 0, false));
    house.wall.advance(1);
    assert_eq!(counted().await, (5, false, 1, false));
    // The one that is overdue is the first that is left out, and then far behind.
    begin(&house, 5, 6).await;
    assert_eq!(counted().await, (5, true, 1, false));
    begin(&house, 6, 23).await;
    assert_eq!(counted().await, (5, true, 1, false));
    // Twenty-three of them: the newest five and the oldest five are looked through.
    house.wall.advance(EMERGENCY_REVIEW_S * 1000 - 1);
    assert_eq!(counted().await, (5, true, 5, true));
    house.wall.advance(1);
    assert_eq!(counted().await, (5, true, 10, true));
}

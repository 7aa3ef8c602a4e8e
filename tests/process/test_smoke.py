from support.running import run_guest
def test_all(engine, guests):
    r = run_guest(guests["returns"], "run", 1, 7, engine=engine)
    print(r)
    assert r.values == (8,)

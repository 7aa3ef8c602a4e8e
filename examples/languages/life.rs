//! Rust: Conway's game of life, a stopping point after each generation; how many is the argument, 0 goes on for ever.

#[path = "../include/procstop.rs"]
mod procstop;

use std::io::Write;

const WIDTH: usize = 40;
const HEIGHT: usize = 10;

type World = [[bool; WIDTH]; HEIGHT];

fn neighbours(world: &World, row: usize, column: usize) -> usize {
    let mut alive = 0;
    for down in [HEIGHT - 1, 0, 1] {
        for right in [WIDTH - 1, 0, 1] {
            let itself = down == 0 && right == 0;
            if !itself && world[(row + down) % HEIGHT][(column + right) % WIDTH] {
                alive += 1;
            }
        }
    }
    alive
}

fn next(world: &World) -> World {
    let mut after = [[false; WIDTH]; HEIGHT];
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            after[row][column] = matches!((world[row][column], neighbours(world, row, column)), (true, 2) | (_, 3));
        }
    }
    after
}

fn show(world: &World) {
    let mut text = Vec::with_capacity((WIDTH + 1) * HEIGHT);
    for row in world {
        text.extend(row.iter().map(|&alive| if alive { b'#' } else { b'.' }));
        text.push(b'\n');
    }
    let _ = std::io::stdout().write_all(&text);
}

fn main() {
    let generations: i64 = match std::env::args().nth(1).and_then(|text| text.parse().ok()) {
        Some(number) => number,
        None => procstop::fail("give one argument: the number of generations, 0 for no end"),
    };
    let mut world = [[false; WIDTH]; HEIGHT];
    // A glider.
    for (row, column) in [(0, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
        world[row][column] = true;
    }
    let mut generation = 0;
    while generations == 0 || generation < generations {
        world = next(&world);
        generation += 1;
        if generations == 0 {
            procstop::checkpoint();
        } else {
            procstop::progress(generation, generations);
        }
    }
    show(&world);
}

//! How deep a model's SQL goes. The parser, the planner and the engine go down it by recursion, so that a chain of thousands of operators
//! would end the program by its stack, without a word. Counted in the tokens, before anything is parsed.

use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

/// Operators, joins and unions one upon another that a model may have: ten times what people write, and a third of what a
/// stack of 8 MiB holds in a debug build.
pub(super) const DEEPEST: usize = 256;

/// Whether SQL chains or nests more operators, joins and unions than [`DEEPEST`]. What has no tokens is the parser's to refuse.
pub(super) fn is_too_deep(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return false };
    // Of each open parenthesis: the operators of the expression at hand, and joins and unions.
    let mut open = vec![(0_usize, 0_usize)];
    for token in &tokens {
        let is_inner = open.len() > 1;
        let Some((operators, sources)) = open.last_mut() else { return true };
        match token {
            Token::LParen | Token::LBracket => open.push((0, 0)),
            Token::RParen | Token::RBracket if is_inner => {
                open.pop();
            }
            Token::Comma => *operators = 0,
            Token::Word(word) => match word.keyword {
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => *sources += 1,
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::IS | Keyword::LIKE | Keyword::ILIKE => {
                    *operators += 1
                }
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::HAVING | Keyword::ON | Keyword::BY => {
                    *operators = 0
                }
                Keyword::WHEN | Keyword::THEN | Keyword::ELSE => *operators = 0,
                _ => {}
            },
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => *operators += 1,
            Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq | Token::DoubleColon => {
                *operators += 1
            }
            Token::Ampersand | Token::Pipe | Token::Caret | Token::Arrow | Token::LongArrow => *operators += 1,
            _ => {}
        }
        let depth: usize = open.iter().map(|(operators, sources)| operators + sources).sum();
        if depth.max(open.len()) > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(expression: &str) -> String {
        format!("select id, {expression} as x from t where id > 0")
    }

    #[test]
    fn a_chain_of_operators_joins_or_unions_is_deep_and_a_list_is_not() {
        for deep in [
            select(&format!("{}1", "1+".repeat(20_000))),
            select(&format!("{}v", "v || ".repeat(1_000))),
            select(&format!("{}v = 'b'", "v = 'a' or ".repeat(300))),
            select(&format!("{}1{}", "(1 + ".repeat(300), ")".repeat(300))),
            vec!["select id from t"; 1_000].join(" union all "),
            format!("select id from t{}", " join t using (id)".repeat(300)),
        ] {
            assert!(is_too_deep(&deep), "{}", &deep[..60]);
        }
        for wide in [
            select(&format!("v in ({})", vec!["1 + 1"; 5_000].join(", "))),
            select(&format!("case {} else 0 end", "when v = 'a' and id = 1 then 1 + 1 ".repeat(5_000))),
            (0..1_600).map(|i| format!("select a + {i} as c{i}")).collect::<Vec<_>>().join(", "),
            select(&format!("{}1", "1+".repeat(200))),
            "select ')))' from t".to_string(),
            "select (((".to_string(),
        ] {
            assert!(!is_too_deep(&wide), "{}", &wide[..10]);
        }
    }
}

//! How deep a model's SQL goes. The parser, the planner and the engine go down it by recursion, so that a chain of thousands of operators
//! would end the program by its stack, without a word. Counted in the tokens, before anything is parsed.
//!
//! What is counted is never less than the depth of the tree that the parser makes of a chain, and a little more where a deep part is
//! not the first of its chain. Words that end a part of a query, and that somebody has as a column's name, are names right behind an
//! operator or a point.

use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer};

/// Operators, joins and unions one upon another that a model may have: twenty times what people write, and half of the thousand at
/// which a program with threads of 2 MiB ended. The shells' threads have four times that, which a debug build needs.
pub(super) const DEEPEST: usize = 500;

/// What the word `interval` counts: the parser goes down it with several of its largest functions, and unlike others without a guard.
const INTERVAL: usize = 5;

/// Whether SQL chains or nests more operators, joins and unions than [`DEEPEST`]. What has no tokens is the parser's to refuse.
pub(super) fn is_too_deep(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return false };
    depth(&tokens) > DEEPEST
}

/// What is open at a token: the whole query, a parenthesis, a bracket or a `case`. A query is a chain of arms (`union`), an arm has
/// joins and a list of items, an item is a chain of links (`and`, `or`), and a link one of operators.
#[derive(Default)]
struct Open {
    is_case: bool,
    arms: usize,
    deepest_arm: usize,
    /// Whether a comma is a join.
    in_from: bool,
    joins: usize,
    deepest_item: usize,
    links: usize,
    deepest_link: usize,
    /// Each has an `and` that is no link.
    betweens: usize,
    operators: usize,
    /// Of what was open in the link at hand.
    deepest_inner: usize,
}

impl Open {
    fn end_link(&mut self) {
        self.deepest_link = self.deepest_link.max(self.operators + self.deepest_inner);
        (self.operators, self.deepest_inner) = (0, 0);
    }

    fn end_item(&mut self) {
        self.end_link();
        self.deepest_item = self.deepest_item.max(self.links + self.deepest_link);
        (self.links, self.deepest_link, self.betweens) = (0, 0, 0);
    }

    fn end_arm(&mut self) {
        self.end_item();
        self.deepest_arm = self.deepest_arm.max(self.joins + self.deepest_item);
        (self.joins, self.deepest_item, self.in_from) = (0, 0, false);
    }

    fn depth(mut self) -> usize {
        self.end_arm();
        self.arms + self.deepest_arm
    }

    /// A word that ends an item and begins another part of the query, in which a comma is a join or is not.
    fn begin(&mut self, in_from: bool) {
        self.end_item();
        self.in_from = in_from;
    }
}

fn depth(tokens: &[Token]) -> usize {
    let mut outer: Vec<Open> = Vec::new();
    let mut at = Open::default();
    // What the token before was.
    let (mut operator, mut point, mut is) = (false, false, false);
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        let after_operator = std::mem::take(&mut operator);
        let after_point = std::mem::take(&mut point);
        let after_is = std::mem::take(&mut is);
        match token {
            Token::LParen | Token::LBracket => {
                // A subscript goes upon what it is of.
                at.operators += usize::from(*token == Token::LBracket);
                outer.push(std::mem::take(&mut at));
            }
            Token::RParen | Token::RBracket => while close(&mut at, &mut outer) {},
            Token::Comma => {
                at.joins += usize::from(at.in_from);
                at.end_item();
            }
            Token::Period => point = true,
            Token::Word(_) if after_point => {}
            Token::Word(word) => match word.keyword {
                Keyword::CASE => outer.push(std::mem::replace(&mut at, Open { is_case: true, ..Open::default() })),
                Keyword::END if at.is_case => {
                    close(&mut at, &mut outer);
                }
                Keyword::BETWEEN => {
                    at.betweens += 1;
                    at.operators += 1;
                }
                Keyword::AND if at.betweens > 0 => {
                    at.betweens -= 1;
                    operator = true;
                }
                Keyword::AND | Keyword::OR | Keyword::XOR => {
                    at.links += 1;
                    at.end_link();
                    operator = true;
                }
                Keyword::IS => {
                    at.operators += 1;
                    is = true;
                }
                // `is not distinct from` is one operator.
                Keyword::NOT | Keyword::DISTINCT if after_is => is = true,
                Keyword::FROM if after_is => operator = true,
                _ if after_operator && is_clause(word.keyword) => {}
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
                    at.arms += 1;
                    at.end_arm();
                }
                Keyword::JOIN | Keyword::APPLY => {
                    at.joins += 1;
                    at.end_item();
                }
                Keyword::FROM => at.begin(true),
                Keyword::ON | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => at.end_item(),
                keyword if is_clause(keyword) => at.begin(false),
                Keyword::NOT => {
                    at.operators += 1;
                    operator = true;
                }
                Keyword::INTERVAL => at.operators += INTERVAL,
                keyword if is_operator(keyword) => at.operators += 1,
                _ => {}
            },
            _ if is_value(token) => {}
            _ => {
                at.operators += 1;
                // `select *` may stand before `from`.
                operator = *token != Token::Mul;
            }
        }
    }
    while let Some(before) = outer.pop() {
        enclose(&mut at, before);
    }
    at.depth()
}

/// Ends what is open, if it is not all; whether it was a `case` and something else is to be ended before it.
fn close(at: &mut Open, outer: &mut Vec<Open>) -> bool {
    let Some(before) = outer.pop() else { return false };
    let was_case = at.is_case;
    enclose(at, before);
    was_case
}

fn enclose(at: &mut Open, before: Open) {
    let inner = std::mem::replace(at, before).depth() + 1;
    at.deepest_inner = at.deepest_inner.max(inner);
}

/// Words that end an item, or an arm.
fn is_clause(keyword: Keyword) -> bool {
    use Keyword::*;
    [SELECT, FROM, WHERE, GROUP, HAVING, ORDER, BY, WINDOW, QUALIFY, LIMIT, ON, WHEN, THEN, ELSE].contains(&keyword)
        || [UNION, EXCEPT, INTERSECT, MINUS, JOIN, APPLY].contains(&keyword)
}

/// Words that are operators, or go upon what stands before them.
fn is_operator(keyword: Keyword) -> bool {
    use Keyword::*;
    [LIKE, ILIKE, RLIKE, REGEXP, SIMILAR, ESCAPE, IN, NOTNULL, COLLATE, AT, OVERLAPS, DIV, MATCH, MEMBER, OPERATOR]
        .contains(&keyword)
}

/// Tokens that are values, or stand between them without making the tree deeper. All others are operators.
fn is_value(token: &Token) -> bool {
    use Token::*;
    matches!(
        token,
        EOF | SemiColon
            | Placeholder(_)
            | LBrace
            | RBrace
            | Char(_)
            | Number(..)
            | SingleQuotedString(_)
            | DoubleQuotedString(_)
            | TripleSingleQuotedString(_)
            | TripleDoubleQuotedString(_)
            | DollarQuotedString(_)
            | EscapedStringLiteral(_)
            | UnicodeStringLiteral(_)
            | NationalStringLiteral(_)
            | HexStringLiteral(_)
            | SingleQuotedByteStringLiteral(_)
            | DoubleQuotedByteStringLiteral(_)
            | SingleQuotedRawStringLiteral(_)
            | DoubleQuotedRawStringLiteral(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(expression: &str) -> String {
        format!("select id, {expression} as x from t where id > 0")
    }

    fn measured(sql: &str) -> usize {
        depth(&Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap())
    }

    #[test]
    fn a_chain_of_operators_joins_or_unions_is_deep_and_a_list_is_not() {
        for deep in [
            select(&format!("{}1", "1+".repeat(20_000))),
            select(&format!("{}v", "v || ".repeat(1_000))),
            select(&format!("{}v = 'b'", "v = 'a' or ".repeat(600))),
            select(&format!("{}'1 day'", "interval ".repeat(101))),
            select(&format!("{}1{}", "(1 + ".repeat(300), ")".repeat(300))),
            vec!["select id from t"; 1_000].join(" union all "),
            format!("select id from t{}", " join t using (id)".repeat(600)),
        ] {
            assert!(is_too_deep(&deep), "{}", &deep[..60]);
        }
        for wide in [
            select(&format!("v in ({})", vec!["1 + 1"; 5_000].join(", "))),
            select(&format!("case {} else 0 end", "when v = 'a' and id = 1 then 1 + 1 ".repeat(5_000))),
            (0..1_600).map(|i| format!("select a + {i} as c{i}")).collect::<Vec<_>>().join(", "),
            select(&format!("{}1", "1+".repeat(400))),
            select(&format!("v{}", " + interval '1 day'".repeat(80))),
            "select ')))' from t".to_string(),
            "select (((".to_string(),
            "select ))) end end case case".to_string(),
        ] {
            assert!(!is_too_deep(&wide), "{}", &wide[..10]);
        }
    }

    #[test]
    fn no_word_or_sign_makes_a_chain_look_short() {
        for link in [
            "a is distinct from b or ",
            "a is not distinct from b and ",
            "case when a then 'x' else 'y' end || ",
            "case when a then 'x' end = ",
            "a << ",
            "a >> ",
            "~ ",
            "not ",
            "a @> ",
            "a xor ",
            "a # ",
            "a -> 'k' -> ",
            "a in (1) or ",
            "a between 1 and 2 = ",
            "t.where || ",
            "by || ",
            "\"from\" || ",
            "(select max(x) from t where x > 1) + ",
        ] {
            assert!(is_too_deep(&select(&format!("{}a", link.repeat(2_000)))), "{link}");
        }
        assert!(is_too_deep(&select(&format!("a{}", "[1]".repeat(2_000)))));
        assert!(is_too_deep(&select(&format!("a{}", " at time zone 'utc'".repeat(2_000)))));
        assert!(is_too_deep(&select(&format!("a{}", " between 1 and 2 || 'b'".repeat(2_000)))));
        assert!(is_too_deep(&vec!["select id from t"; 2_000].join(" minus ")));
        assert!(is_too_deep(&format!("select * from {}", vec!["t"; 2_000].join(", "))));
        let mut nested = "a".to_string();
        (0..40).for_each(|_| nested = format!("({nested}){}", " + 1".repeat(100)));
        assert!(is_too_deep(&select(&nested)));
    }

    #[test]
    fn models_that_people_write_are_as_deep_as_their_tree() {
        let joins: String = (1..8).map(|i| format!(" join t{i} on t{i}.id = t0.id and t{i}.v > 0")).collect();
        let arm = format!("select t0.id from t0{joins} where t0.v is not null");
        for (sql, deepest) in [
            (select(&format!("{}code = 'z'", "code = 'x' or ".repeat(400))), 401),
            (select(&format!("{}y", "x is not null and ".repeat(400))), 401),
            (select(&format!("{}y", "x between 1 and 2 or ".repeat(400))), 401),
            (vec![arm.as_str(); 40].join(" union all "), 50),
            (format!("{}{}", "select a, b, c, d from t group by a, b, c, d", " order by a, b, c, d"), 0),
            ("with a as (select 1), b as (select 2) select * from a, b as x(i, j), t".to_string(), 3),
            (select("case when a = 1 then b || c when a = 2 then d end || e"), 3),
        ] {
            let measured = measured(&sql);
            assert!(measured <= deepest, "{measured} {}", &sql[..40]);
        }
    }
}
